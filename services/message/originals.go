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
	// originalWait is how long a send that was published waits to learn whether it is a repeat.
	originalWait = 100 * time.Millisecond
	// lookupPause lies between the starts of two look-ups. A look-up costs SQLite 60 µs and 3 µs for each message; so at any
	// rate of sends all of them take a tenth of a core.
	lookupPause = time.Millisecond
	// maxLookup bounds what one look-up asks for.
	maxLookup = 512
	// knownOriginals is how many messages are remembered that this node accepted, until storage has them.
	knownOriginals = 1 << 14
)

// originals finds out when messages that may be repeats were sent first, so that a repeat is answered with the timestamp of
// the message that is there. It remembers what this node accepted lately and asks the store for the rest, beside the
// publishing; what waits meanwhile becomes the next look-up. A store that does not answer holds up no send: the repeats that
// it alone knows of are then answered with a timestamp of their own.
type originals struct {
	store   Store
	breaker breaker
	tasks   *tasks
	known   *lru.Cache[string, int64] // timestamps by message id

	mu      sync.Mutex
	waiting []*lookup
	running bool
	slow    bool // the store has let somebody wait in vain, and has not answered since
}

// lookup is what one run of sends asks for. The answer is there once done is closed.
type lookup struct {
	messages []store.MessageKey
	sentAt   map[store.MessageKey]int64
	done     chan struct{}
}

func newOriginals(st Store, t *tasks) (*originals, error) {
	known, err := lru.New[string, int64](knownOriginals)
	if err != nil {
		return nil, err
	}
	return &originals{store: st, tasks: t, known: known}, nil
}

// look begins to ask the store for those of the messages that this node does not remember.
func (o *originals) look(messages []store.MessageKey) *lookup {
	l := &lookup{done: make(chan struct{})}
	for _, m := range messages {
		if !o.known.Contains(m.MessageID) {
			l.messages = append(l.messages, m)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.running && len(l.messages) > 0 {
		o.running = o.tasks.start(o.run)
	}
	if !o.running || len(l.messages) == 0 {
		close(l.done)
		return l
	}
	o.waiting = append(o.waiting, l)
	return l
}

func (o *originals) run(ctx context.Context) {
	for some := o.take(); some != nil; some = o.take() {
		began := time.Now()
		var messages []store.MessageKey
		for _, l := range some {
			messages = append(messages, l.messages...)
		}
		var sentAt map[store.MessageKey]int64
		err := o.breaker.call(ctx, func(ctx context.Context) (err error) {
			panicked := o.tasks.panics.Do(panics.Call, func() { sentAt, err = o.store.SentAt(ctx, messages) })
			return cmp.Or(panicked, err)
		})
		if err == nil {
			o.mu.Lock()
			o.slow = false
			o.mu.Unlock()
		}
		for _, l := range some {
			l.sentAt = sentAt
			close(l.done)
		}
		sleep(ctx, lookupPause-time.Since(began))
	}
}

func (o *originals) take() []*lookup {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, messages := 0, 0
	for n < len(o.waiting) && (n == 0 || messages+len(o.waiting[n].messages) <= maxLookup) {
		messages += len(o.waiting[n].messages)
		n++
	}
	some := o.waiting[:n:n]
	if o.waiting = o.waiting[n:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
	if n == 0 {
		o.running = false
		return nil
	}
	return some
}

// wait returns once the store has answered, or when the send has waited long enough.
func (o *originals) wait(l *lookup) {
	o.mu.Lock()
	slow := o.slow
	o.mu.Unlock()
	if slow {
		return
	}
	timer := time.NewTimer(originalWait)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
		o.mu.Lock()
		o.slow = true
		o.mu.Unlock()
	}
}

// sentAt returns when the message that was accepted now was sent first, and remembers it.
func (o *originals) sentAt(l *lookup, m store.MessageKey, now int64) int64 {
	at, known := o.known.Get(m.MessageID)
	if !known {
		at = now
		select {
		case <-l.done:
			if first, ok := l.sentAt[m]; ok {
				at = first
			}
		default:
		}
	}
	o.known.Add(m.MessageID, at)
	return at
}
