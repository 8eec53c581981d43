package message

import (
	"cmp"
	"context"
	"sync"
	"time"

	"millrace/infra/panics"
	"millrace/infra/store"
)

const (
	// lookupPause is the least time between the starts of two look-ups. A look-up costs SQLite 60 µs, and 3 µs for each
	// message, so all look-ups together take at most a hundredth of a core and 3 µs for each message.
	lookupPause = 5 * time.Millisecond
	// maxLookup bounds the messages of one look-up, and so how many wait for it.
	maxLookup = 512
	// knownOriginals is how many messages at least are remembered that this node has accepted or found in the store: the latest
	// ones.
	knownOriginals = 1 << 14
)

// original is what the sender of a repeat is told of the message that is there.
type original struct {
	sentAt   int64 // Unix seconds
	replaced bool  // a hook has replaced its content or extra
	stored   bool  // the store has said so, which does not know whether it was replaced
}

// originals knows when messages that may be repeats were first sent, so that a repeat is answered with the timestamp of the
// stored message. No send waits for it: originals answers from memory alone. Memory has what this node has accepted lately
// and what the store has returned. While a message that is not in memory is being published, originals asks the store for it.
// So it knows a repeat that only the store knows, if the store responds before the broker acknowledges. If the store is
// slower, the repeat is answered with a timestamp of its own, and the next repeat with the original's.
type originals struct {
	store   Store
	breaker breaker
	tasks   *tasks
	sent    *remembered

	mu      sync.Mutex
	waiting []store.MessageKey // at most maxLookup
	running bool
}

func newOriginals(st Store, t *tasks) *originals {
	return &originals{store: st, tasks: t, sent: newRemembered(knownOriginals)}
}

// look asks the store in the background for those of the messages that this node does not remember. What waits while the
// store is being asked becomes the next look-up. What does not fit into one is not looked up.
func (o *originals) look(messages []store.MessageKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range messages {
		if len(o.waiting) == maxLookup {
			break
		}
		if _, known := o.sent.get(m.MessageID); !known {
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
		// If the store fails, the next sends ask it again; nobody waits for this call.
		_ = o.breaker.call(ctx, func(ctx context.Context) (err error) {
			panicked := o.tasks.panics.Do(panics.Call, func() { sentAt, err = o.store.SentAt(ctx, messages) })
			return cmp.Or(panicked, err)
		})
		for m, at := range sentAt {
			o.sent.add(m.MessageID, original{sentAt: at, stored: true})
		}
		sleep(ctx, lookupPause-time.Since(began))
	}
}

// take removes and returns what waits. If nothing does it returns nil, and the next look has to start another run.
func (o *originals) take() []store.MessageKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	messages := o.waiting
	o.waiting = nil
	o.running = messages != nil
	return messages
}

// note returns what is known of the message that was just accepted, and remembers it: what is passed, unless it is a repeat. Of
// the first that only the store knows, it is taken that the hooks did the same as of the repeat.
func (o *originals) note(messageID string, accepted original) original {
	first, repeat := o.sent.addNew(messageID, accepted)
	switch {
	case !repeat:
		return accepted
	case first.stored:
		first.replaced, first.stored = accepted.replaced, false
		o.sent.add(messageID, first)
	}
	return first
}
