package proof

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
)

const (
	// failing is how long a receiver fails, and then how long it takes events again.
	failing = time.Second
	// failsAgain is after how long without a request it does not fail, so that nobody leaves it alone for much longer.
	failsAgain = 5 * time.Second
)

// receiver is an endpoint of the webhook handler that fails half of the time, unless it is reliable. It notes what it has taken.
type receiver struct {
	t        testing.TB
	url      string
	reliable bool

	mu       sync.Mutex
	requests int
	asked    time.Time                    // for the last time
	taken    map[string]int               // how often, by event id
	order    map[string][]events.Position // by conversation, when taken first
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{t: t, taken: map[string]int{}, order: map[string][]events.Position{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// writeEndpoints writes the file that makes the webhook handler send everything to the receiver.
func (r *receiver) writeEndpoints(path string) error {
	return os.WriteFile(path, fmt.Appendf(nil, `endpoints:
- name: half
  url: %s
  secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]
  allow_private: true
`, r.url), 0o600)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	data, err := io.ReadAll(q.Body)
	if err != nil {
		return // the worker was killed
	}
	var request struct {
		Pos      string         `json:"pos"`
		Replayed bool           `json:"replayed"`
		Data     jsontext.Value `json:"data"`
	}
	assert.NoError(r.t, json.Unmarshal(data, &request))
	pos, err := events.ParsePosition(request.Pos)
	assert.NoError(r.t, err)
	event, err := events.Decode(events.TopicMessages, pos, request.Data)
	assert.NoError(r.t, err)
	id := q.Header.Get("webhook-id")
	assert.Equal(r.t, event.EventID, id)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	alone := time.Since(r.asked)
	r.asked = time.Now()
	if !r.reliable && alone < failsAgain && r.asked.UnixNano()/int64(failing)%2 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.taken[id]++; r.taken[id] == 1 && !request.Replayed {
		r.order[event.ConversationKey()] = append(r.order[event.ConversationKey()], pos)
	}
}

// lacks returns which of the events it has not taken.
func (r *receiver) lacks(ids map[string]bool) (lacking []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range ids {
		if r.taken[id] == 0 {
			lacking = append(lacking, id)
		}
	}
	return lacking
}

// requireOrder requires that it has taken the events of each conversation in order. Repeats may come at any time.
func (r *receiver) requireOrder() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	repeats := -len(r.taken)
	for _, times := range r.taken {
		repeats += times
	}
	for conversation, positions := range r.order {
		require.IsIncreasing(r.t, seqs(positions), conversation)
	}
	r.t.Logf("the receiver has taken %d events, and %d repeats, with %d requests", len(r.taken), repeats, r.requests)
}

func seqs(positions []events.Position) (all []int64) {
	for _, p := range positions {
		all = append(all, p.Seq)
	}
	return all
}
