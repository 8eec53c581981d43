package proof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/services/client"
)

// outrages are things to write to a gateway after connecting, each with the code that it must be closed with.
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

// refused are frames that are answered with an error and do not end the connection.
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

// Garbage of every kind comes to one gateway while a crowd chats over it. Each piece is refused with a code, or ends its
// connection with one. The crowd is not affected, and afterwards the gateway is as before.
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

// wasteHandshakes opens connections that never ask for a WebSocket, ask for nonsense, or never connect, and waits until the
// gateway has closed all of them.
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

// commitOutrages commits each outrage several times.
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
					_ = v.write(o.bytes) // the gateway may close before it has got everything
				}()
				defer func() { <-written }()
				return v.mustEnd(what, o.code)
			})
		}
		for n := range 20 { // half a frame, and then nothing
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

// sayWhatIsRefused writes all refused frames to one connection.
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
