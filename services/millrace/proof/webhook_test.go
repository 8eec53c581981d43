package proof

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
)

// hook is an endpoint of the webhook handler that fails half of the time. It notes what it has taken.
type hook struct {
	t *testing.T

	mu    sync.Mutex
	asked int
	taken map[string]int               // how often, by id
	order map[string][]events.Position // by conversation, when taken first
}

func (h *hook) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var event struct {
		Pos  string `json:"pos"`
		Data struct {
			Message *struct {
				Conversation string `json:"conversation"`
			} `json:"message"`
		} `json:"data"`
	}
	assert.NoError(h.t, json.UnmarshalRead(q.Body, &event))
	pos, err := events.ParsePosition(event.Pos)
	assert.NoError(h.t, err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked++; h.asked%2 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	id := q.Header.Get("webhook-id")
	if h.taken[id]++; h.taken[id] == 1 && event.Data.Message != nil {
		h.order[event.Data.Message.Conversation] = append(h.order[event.Data.Message.Conversation], pos)
	}
}

// Whatever happens to the workers and however often the endpoint fails, it gets every message, in order within each
// conversation, and every message is counted once.
func TestWebhookGetsEveryMessageInOrderAndEachIsCountedOnceThoughTheWorkersAreKilled(t *testing.T) {
	t.Parallel()
	h := &hook{t: t, taken: map[string]int{}, order: map[string][]events.Position{}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c := startCluster(t)
	path := filepath.Join(c.dataDir, "webhooks.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `endpoints:
- name: half
  url: %s
  secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]
  types: [new_message]
  allow_private: true
`, server.URL), 0o600))
	free := FreeAddresses(t, 2)
	for i, admin := range free {
		c.add(fmt.Sprint("webhook-", i), readyURL(admin), "worker", "--handlers=webhook,analytics", "--webhooks="+path,
			"--data-dir="+c.dataDir, "--kafka-brokers="+c.log[0], "--admin-addr="+admin)
	}
	workers := c.processes[len(c.processes)-2:]
	for _, p := range workers {
		p.start(t)
	}

	var stop atomic.Bool
	var talking sync.WaitGroup
	sent := make([]map[string][]string, 6) // by conversation the message ids
	for i := range sent {
		sent[i] = map[string][]string{}
		u := Join(t, c.gateways[i%2], int64(3000+i), nil)
		talking.Go(func() {
			for n := 0; !stop.Load(); n++ {
				s := u.Sends(t, client.ToUser(int64(4000+i+10*(n%3))), fmt.Sprint(n))
				sent[i][s.Conversation] = append(sent[i][s.Conversation], s.MessageID)
				<-time.After(20 * time.Millisecond)
			}
		})
	}
	for round := range 4 {
		<-time.After(2 * time.Second)
		workers[round%2].kill()
		workers[round%2].start(t)
	}
	stop.Store(true)
	talking.Wait()

	messages, repeats := 0, 0
	for _, conversations := range sent {
		for conversation, ids := range conversations {
			for _, id := range ids {
				require.Eventually(t, func() bool { return h.count(id) > 0 }, Patience, 10*time.Millisecond, "%s of %s", id, conversation)
				messages++
				repeats += h.count(id) - 1
			}
		}
	}
	require.Greater(t, messages, 100)
	require.Eventually(t, func() bool { return c.counted() >= messages }, Patience, 100*time.Millisecond)
	require.Equal(t, messages, c.counted())
	for _, p := range workers {
		p.awaitReady(t)
		p.stop(t)
	}
	h.mu.Lock() // a request that a killed worker has sent may be served still
	defer h.mu.Unlock()
	require.Len(t, h.taken, messages)
	for conversation, positions := range h.order {
		require.IsIncreasing(t, seqs(positions), conversation)
	}
	t.Logf("%d messages, %d requests, %d repeats", messages, h.asked, repeats)
	c.stopAll()
}

func (h *hook) count(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken[id]
}

func seqs(positions []events.Position) (all []int64) {
	for _, p := range positions {
		all = append(all, p.Seq)
	}
	return all
}

// counted returns how many messages the analytics handler has counted.
func (c *cluster) counted() (messages int) {
	path, err := built.path()
	require.NoError(c.t, err)
	node := c.named("message-1").args[1] // --message-addr=
	out, err := exec.CommandContext(c.t.Context(), path, "stats", "--json", "--span=day", "--last=2",
		strings.Replace(node, "addr", "addrs", 1)).Output()
	require.NoError(c.t, err)
	var counted struct {
		Buckets []struct {
			Messages int `json:"messages"`
		} `json:"buckets"`
	}
	require.NoError(c.t, json.Unmarshal(out, &counted))
	for _, b := range counted.Buckets {
		messages += b.Messages
	}
	return messages
}
