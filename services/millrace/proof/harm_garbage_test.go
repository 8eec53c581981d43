package proof

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/services/client"
)

const (
	opText, opBinary, opPing = 1, 2, 9
	finished                 = 0x80

	garbageUsers = 60_000
	fuzzed       = 1_000_000
	fuzzers      = 16
)

// appendFrame appends a client's frame; its mask is of zeros.
func appendFrame(b []byte, first byte, payload string) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func textFrame(payload string) []byte { return appendFrame(nil, finished|opText, payload) }

// vandal is a connection that writes bytes of its own choice.
type vandal struct{ *websocket.Conn }

func openVandal(ctx context.Context, url string) (vandal, error) {
	conn, response, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
	if err != nil {
		return vandal{}, err
	}
	_ = response.Body.Close()
	return vandal{conn}, conn.SetReadDeadline(time.Now().Add(Healing))
}

// connectVandal opens one that has connected as the user.
func connectVandal(ctx context.Context, url string, user int64) (vandal, error) {
	v, err := openVandal(ctx, url)
	if err != nil {
		return v, err
	}
	t, err := Token(user)(ctx)
	if err != nil {
		return v, err
	}
	if err := v.write(textFrame(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, t))); err != nil {
		return v, err
	}
	_, answer, err := v.ReadMessage()
	if err == nil && !strings.Contains(string(answer), `"connected"`) {
		err = fmt.Errorf("not connected: %s", answer)
	}
	return v, err
}

func (v vandal) write(b []byte) error {
	if err := v.NetConn().SetWriteDeadline(time.Now().Add(Healing)); err != nil { // in place of the last pong's
		return err
	}
	_, err := v.NetConn().Write(b)
	return err
}

// code is the code with which the connection is closed in the end.
func (v vandal) code() (int, error) {
	defer v.Close()
	for {
		_, _, err := v.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return closed.Code, nil
		case err != nil:
			return 0, err
		}
	}
}

// outrages are what may be written to a gateway after connecting, and with which code it must end.
func outrages() map[string]struct {
	bytes []byte
	code  int
} {
	type outrage = struct {
		bytes []byte
		code  int
	}
	var pings []byte
	for range 1000 {
		pings = appendFrame(pings, finished|opPing, "x")
	}
	return map[string]outrage{
		"reserved bits":             {appendFrame(nil, 0xf1, "{}"), websocket.CloseProtocolError},
		"unknown opcode":            {appendFrame(nil, finished|5, "{}"), websocket.CloseProtocolError},
		"no mask":                   {[]byte{finished | opText, 2, '{', '}'}, websocket.CloseProtocolError},
		"continuation of nothing":   {appendFrame(nil, finished, "{}"), websocket.CloseProtocolError},
		"half a control frame":      {appendFrame(nil, opPing, "x"), websocket.CloseProtocolError},
		"control frame too long":    {appendFrame(nil, finished|opPing, strings.Repeat("x", 126)), websocket.CloseProtocolError},
		"two messages interleaved":  {append(appendFrame(nil, opText, "{"), textFrame("}")...), websocket.CloseProtocolError},
		"not UTF-8":                 {textFrame("{\"id\":\xff}"), websocket.CloseInvalidFramePayloadData},
		"binary":                    {appendFrame(nil, finished|opBinary, "{}"), websocket.CloseUnsupportedData},
		"too large":                 {textFrame(strings.Repeat("x", 64<<10+1)), websocket.CloseMessageTooBig},
		"flood of pings":            {pings, client.CloseTooMany},
		"too large, never complete": {appendFrame(nil, opText, strings.Repeat("x", 70<<10)), websocket.CloseMessageTooBig},
	}
}

// refused are frames that are answered by an error, after which the connection goes on.
func refused() []string {
	deep := func(open, shut string) string { return strings.Repeat(open, 10_000) + strings.Repeat(shut, 10_000) }
	return []string{
		"", "{", "[]", "null", "1e999", deep("[", "]"), strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		`{"id":1,"send":` + deep("[", "]") + `}`, `{"id":1e400,"ping":{}}`, `{"id":9223372036854775808,"ping":{}}`,
		`{"id":` + strings.Repeat("9", 60_000) + `,"ping":{}}`, `{"id":-1,"ping":{}}`, `{"id":1.5,"ping":{}}`, `{"ping":{}}`,
		`{"id":2,"ping":{},"read":{}}`, `{"id":2,"nothing":{}}`, `{"id":2,"send":{"to":1e400}}`, `{"id":2,"send":{"to":[]}}`,
		`{"id":2,"connect":{}}`, `{"id":2,"history":{"conversation":"` + strings.Repeat(":", 60_000) + `"}}`,
		`{"id":2,"group_create":{"members":[` + strings.Repeat("9007199254740993,", 3000) + `1]}}`,
		`{"id":2,"presence":{"users":[` + strings.Repeat("1,", 30_000) + `1]}}`,
	}
}

// Garbage of every kind comes to one gateway while a crowd chats over it: each piece is refused with a code or ends its
// connection with one, the crowd is not affected, and afterwards the gateway is as before.
func TestHarmGarbage(t *testing.T) {
	NeedsHarm(t)
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("before")
	gateway := c.named("connect-1")
	connections := float64(len(crowd.Talkers) / len(c.gateways))
	v, err := connectVandal(ctx, c.gateways[0], garbageUsers)
	require.NoError(t, err)
	require.NoError(t, v.Close())
	EventuallyTrue(t, "the gateway has forgotten the first that was cut", func() bool {
		return gateway.metric(t, "millrace_connections") == connections
	})
	goroutines, heap := gateway.metric(t, "go_goroutines"), gateway.heapInUse(t)
	watch := crowd.watches.start()

	var harm errgroup.Group
	harm.Go(func() error { return wasteHandshakes(ctx, c.gateways[0]) })
	harm.Go(func() error { return sayWhatIsRefused(ctx, c.gateways[0]) })
	harm.Go(func() error { return commitOutrages(ctx, c.gateways[0]) })
	var fuzz fuzz
	for i := range fuzzers {
		harm.Go(func() error { return fuzz.run(ctx, c.gateways[0], garbageUsers+int64(i), fuzzed/fuzzers) })
	}
	begin := time.Now()
	require.NoError(t, harm.Wait())
	t.Logf("%d frames answered in %s, connections closed by code: %v", fuzz.answered, time.Since(begin), fuzz.closed)
	require.GreaterOrEqual(t, fuzz.answered, fuzzed)
	acked, delivered := crowd.watches.of(watch)
	t.Logf("meanwhile everybody of the crowd was answered after %s and shown a message after %s", acked, delivered)
	crowd.GoesOn("after")

	t.Logf("before: %.0f connections, %.0f goroutines, %.1f MB of heap", connections, goroutines, heap/1e6)
	asBefore := func() bool {
		n, g, h := gateway.metric(t, "millrace_connections"), gateway.metric(t, "go_goroutines"), gateway.heapInUse(t)
		t.Logf("now: %.0f connections, %.0f goroutines, %.1f MB", n, g, h/1e6)
		return n == connections && g <= goroutines+20 && h <= heap+3e6
	}
	for deadline := time.Now().Add(Healing); !asBefore(); Wait(ctx, time.Second) {
		require.True(t, time.Now().Before(deadline), "the gateway is not as before")
	}
	require.Zero(t, gateway.count(t, "panic"))
	crowd.End(ctx)
	c.stopAll()
}

// wasteHandshakes opens connections that never ask for a WebSocket, ask for nonsense, or never connect, and waits until
// the gateway has closed them all.
func wasteHandshakes(ctx context.Context, url string) error {
	address := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/ws")
	var all errgroup.Group
	for i := range 300 {
		all.Go(func() error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			switch i % 3 {
			case 0:
				_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nX-")
			case 1:
				garbage := make([]byte, 100+rand.IntN(4000))
				for j := range garbage {
					garbage[j] = byte(rand.IntN(256))
				}
				_, err = conn.Write(append(garbage, "\r\n\r\n"...))
			case 2:
				_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 40)+"\r\n")
			}
			if err != nil {
				return nil // closed already
			}
			if err := conn.SetReadDeadline(time.Now().Add(Healing)); err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, conn)
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				return fmt.Errorf("handshake %d is still open", i%3)
			}
			return nil
		})
	}
	for range 100 {
		all.Go(func() error {
			v, err := openVandal(ctx, url)
			if err != nil {
				return err
			}
			return v.mustEnd("no connect", client.CloseUnauthenticated)
		})
	}
	return all.Wait()
}

func (v vandal) mustEnd(what string, want int) error {
	code, err := v.code()
	if err == nil && code != want {
		err = fmt.Errorf("code %d, want %d", code, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// commitOutrages commits each of them several times.
func commitOutrages(ctx context.Context, url string) error {
	for range 5 {
		var all errgroup.Group
		user := int64(garbageUsers + fuzzers)
		for what, o := range outrages() {
			user++
			all.Go(func() error {
				v, err := connectVandal(ctx, url, user)
				if err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				written := make(chan struct{})
				go func() {
					defer close(written)
					_ = v.write(o.bytes) // the gateway may close before it has all
				}()
				defer func() { <-written }()
				return v.mustEnd(what, o.code)
			})
		}
		for n := range 20 { // half a frame, and gone
			user++
			all.Go(func() error {
				v, err := connectVandal(ctx, url, user)
				if err != nil {
					return err
				}
				if err := v.write(textFrame(`{"id":2,"ping":{}}`)[:1+n]); err != nil {
					return err
				}
				return v.Close()
			})
		}
		if err := all.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// sayWhatIsRefused says all of it over one connection.
func sayWhatIsRefused(ctx context.Context, url string) error {
	v, err := connectVandal(ctx, url, garbageUsers+fuzzers)
	if err != nil {
		return err
	}
	defer v.Close()
	for _, frame := range refused() {
		if err := v.write(textFrame(frame)); err != nil {
			return err
		}
		_, answer, err := v.ReadMessage()
		if err == nil && !strings.Contains(string(answer), `"error":{"code":"`) {
			err = fmt.Errorf("answered by %.100s", answer)
		}
		if err != nil {
			return fmt.Errorf("%.60s: %w", frame, err)
		}
	}
	return nil
}

// fuzz counts the frames that were answered and the connections that were closed, by their codes.
type fuzz struct {
	mu       sync.Mutex
	answered int
	closed   map[int]int
}

// run writes frames that were valid once, a few hundred at a time, each of which must be answered or end the connection
// with a code, until so many have been answered.
func (f *fuzz) run(ctx context.Context, url string, user int64, frames int) error {
	random := rand.New(rand.NewPCG(uint64(user), 0))
	const window = 250
	var v vandal
	var err error
	for frames > 0 {
		if v.Conn == nil {
			if v, err = connectVandal(ctx, url, user); err != nil {
				return err
			}
		}
		var some []byte
		for range window {
			some = append(some, textFrame(mutate(random))...)
		}
		_ = v.write(some) // where it fails, so does the reading
		answered, code, err := v.answers(window)
		if err != nil {
			return fmt.Errorf("fuzzer: after %d answers: %w", answered, err)
		}
		frames -= answered
		f.mu.Lock()
		f.answered += answered
		if code != 0 {
			if f.closed == nil {
				f.closed = map[int]int{}
			}
			f.closed[code]++
			v.Conn = nil
		}
		f.mu.Unlock()
	}
	if v.Conn != nil {
		return v.Close()
	}
	return nil
}

// answers reads until so many frames were answered, or the connection is closed with a code.
func (v vandal) answers(n int) (answered, code int, err error) {
	if err := v.SetReadDeadline(time.Now().Add(Healing)); err != nil {
		return 0, 0, err
	}
	for answered < n {
		_, text, err := v.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
			_ = v.Close()
			return answered, closed.Code, nil
		case err != nil:
			return answered, 0, err
		case !strings.HasPrefix(string(text), `{"push"`):
			answered++
		}
	}
	return answered, 0, nil
}

// mutate changes some bytes of a request; now and then to what is no text.
func mutate(random *rand.Rand) string {
	requests := []string{
		`{"id":7,"send":{"to":9007199254740991,"content":"hello","client_msg_id":"c","message_type":1}}`,
		`{"id":7,"send":{"group_id":77,"content":"hello"}}`, `{"id":7,"read":{"conversation":"u:1:9007199254740991","seq":3}}`,
		`{"id":7,"history":{"conversation":"u:1:9007199254740991","before_seq":9,"limit":50}}`, `{"id":7,"conversations":{"limit":3}}`,
		`{"id":7,"recall":{"conversation":"g:77","message_id":"m"}}`, `{"id":7,"edit":{"conversation":"g:77","message_id":"m","content":"x"}}`,
		`{"id":7,"typing":{"to":9007199254740991}}`, `{"id":7,"presence":{"users":[9007199254740991]}}`, `{"id":7,"ping":{}}`,
		`{"id":7,"refresh":{"token":"a.b.c"}}`, `{"id":7,"connect":{"token":"a.b.c","cursor":{"0":1}}}`, `{"id":7,"group_info":{"group_id":77}}`,
	}
	b := []byte(requests[random.IntN(len(requests))])
	for range 2 + random.IntN(5) {
		i := random.IntN(len(b))
		switch random.IntN(4) {
		case 0:
			b[i] = byte(' ' + random.IntN(95))
		case 1:
			b = append(b[:i], b[i+1:]...)
		case 2:
			b = append(b[:i], append([]byte{`{}[]",:0e-\`[random.IntN(11)]}, b[i:]...)...)
		case 3:
			b[i] ^= 1 << random.IntN(5) // stays ASCII
		}
		if len(b) == 0 {
			return ""
		}
	}
	if random.IntN(5000) == 0 {
		b[random.IntN(len(b))] = 0xff
	}
	return string(b)
}
