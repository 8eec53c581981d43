package proof

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"millrace/services/client"
)

// frameProxy passes the frames of WebSockets on, and as a seed determines delays them, passes some twice, and cuts connections
// off, between frames and in the midst of one.
type frameProxy struct {
	gateway string
	calm    atomic.Bool // nothing happens any more
	cuts    atomic.Int64
	doubled atomic.Int64

	mu   sync.Mutex
	dice *rand.Rand
	wg   sync.WaitGroup
}

// startFrameProxy returns a proxy in front of the gateway, and its URL.
func startFrameProxy(t *testing.T, gateway string, seed uint64) (*frameProxy, string) {
	t.Helper()
	p := &frameProxy{gateway: gateway, dice: rand.New(rand.NewPCG(seed, 0))}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		p.wg.Wait()
	})
	return p, "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

// roll returns a number from 0 up to n-1.
func (p *frameProxy) roll(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dice.IntN(n)
}

func (p *frameProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.wg.Add(1)
	defer p.wg.Done()
	if !p.calm.Load() && p.roll(10) == 0 {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	far, err := client.Open(r.Context(), p.gateway, nil, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{client.Subprotocol}}
	near, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		_ = far.Cut()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		_, _ = near.Close(), far.Cut()
	})
	defer stop()
	defer cancel()
	lifetime := time.Duration(50+p.roll(500)) * time.Millisecond
	cut := time.AfterFunc(lifetime, func() {
		if !p.calm.Load() {
			p.cuts.Add(1)
			cancel()
		}
	})
	defer cut.Stop()

	var up sync.WaitGroup
	up.Go(func() {
		defer cancel()
		for first := true; ; first = false {
			_, text, err := near.ReadMessage()
			if err != nil || !p.pass(ctx, text, first, far.WriteText) {
				return
			}
		}
	})
	for first := true; ; first = false {
		frame, err := far.Read(ctx)
		if err != nil || !p.pass(ctx, frame.Raw, first, func(text []byte) error { return near.WriteMessage(websocket.TextMessage, text) }) {
			break
		}
	}
	cancel()
	_, _ = near.Close(), far.Cut()
	up.Wait()
}

// pass passes a frame on, and reports whether the connection goes on. The first one is connect or its answer, which come once.
func (p *frameProxy) pass(ctx context.Context, text []byte, first bool, write func([]byte) error) bool {
	if !p.calm.Load() {
		if p.roll(4) == 0 {
			Wait(ctx, time.Duration(p.roll(20))*time.Millisecond)
		}
		if p.roll(200) == 0 {
			p.cuts.Add(1)
			return false // and the frame with it
		}
		if !first && p.roll(20) == 0 {
			p.doubled.Add(1)
			if write(text) != nil {
				return false
			}
		}
	}
	return write(text) == nil
}
