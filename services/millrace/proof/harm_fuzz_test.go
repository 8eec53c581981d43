package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// fuzz counts the frames that were answered, and the connections that were closed by their codes.
type fuzz struct {
	mu       sync.Mutex
	answered int
	closed   map[int]int
}

// run writes mutations of valid frames, a few hundred at a time, until so many were answered. Each must be answered, or end
// the connection with a code.
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
		_ = v.write(some) // if it fails, so does the reading
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

// mutate changes some bytes of a request, and now and then makes it invalid text.
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
			b[i] ^= 1 << random.IntN(5) // it stays ASCII
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
