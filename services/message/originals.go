package message

import (
	"cmp"
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/infra/panics"
	"millrace/infra/store"
)

const (
	// lookupPause lies between the starts of two look-ups. A look-up costs SQLite 60 µs and 3 µs for each message; so at any
	// rate of sends all of them take a tenth of a core.
	lookupPause = time.Millisecond
	// maxLookup bounds what one look-up asks for, and so how much waits for it.
	maxLookup = 512
	// knownOriginals is how many messages are remembered that this node accepted or found in the store, the latest ones.
	knownOriginals = 1 << 14
)

// originals knows when messages that may be repeats were sent first, so that a repeat is answered with the timestamp of the
// message that is there. No send waits for that: originals answers from memory alone. The memory holds what this node
// accepted lately and what the store has told it. It asks the store for what it does not know while that is being
// published, so the answer for a repeat that only the store knows of is there in time if the store answers before the
// broker acknowledges. Where it does not, the repeat is answered with a timestamp of its own, and the next one with the
// original's.
type originals struct {
	store   Store
	breaker breaker
	tasks   *tasks
	sent    *lru.Cache[string, int64] // timestamps by message id

	mu      sync.Mutex
	waiting []store.MessageKey // at most maxLookup
	running bool
}

func newOriginals(st Store, t *tasks) (*originals, error) {
	sent, err := lru.New[string, int64](knownOriginals)
	if err != nil {
		return nil, err
	}
	return &originals{store: st, tasks: t, sent: sent}, nil
}

// look has the store asked for those of the messages that this node does not remember, and returns at once. What waits
// while the store is being asked becomes the next look-up; what is more than fits into one is not looked up.
func (o *originals) look(messages []store.MessageKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range messages {
		if len(o.waiting) < maxLookup && !o.sent.Contains(m.MessageID) {
			o.waiting = append(o.waiting, m)
		}
	}
	if !o.running && len(o.waiting) > 0 {
		o.running = o.tasks.start(o.run)
	}
}

func (o *originals) run(ctx context.Context) {
	for messages := o.take(); messages != nil; messages = o.take() {
		began := time.Now()
		var sentAt map[store.MessageKey]int64
		// A store that fails is asked again later, by the next sends; nobody waits for this answer.
		_ = o.breaker.call(ctx, func(ctx context.Context) (err error) {
			panicked := o.tasks.panics.Do(panics.Call, func() { sentAt, err = o.store.SentAt(ctx, messages) })
			return cmp.Or(panicked, err)
		})
		for m, at := range sentAt {
			o.sent.Add(m.MessageID, at)
		}
		sleep(ctx, lookupPause-time.Since(began))
	}
}

// take removes what waits. It returns nil when nothing does, and then another run has to be started.
func (o *originals) take() []store.MessageKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	messages := o.waiting
	o.waiting = nil
	o.running = messages != nil
	return messages
}

// sentAt returns when the message that was accepted now was sent first, as far as that is known, and remembers it.
func (o *originals) sentAt(messageID string, now int64) int64 {
	if first, repeat, _ := o.sent.PeekOrAdd(messageID, now); repeat {
		return first
	}
	return now
}
