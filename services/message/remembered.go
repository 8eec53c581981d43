package message

import "sync"

// remembered keeps the latest messages by their ids, at least so many as its size and at most twice as many. It keeps them in two
// maps: when the one is full it becomes the other, whose messages are forgotten. A list of what was used last would cost several
// times as much.
type remembered struct {
	size int

	mu             sync.Mutex
	recent, before map[string]original
}

func newRemembered(size int) *remembered {
	return &remembered{size: size, recent: make(map[string]original), before: make(map[string]original)}
}

func (r *remembered) get(messageID string) (o original, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known(messageID)
}

func (r *remembered) add(messageID string, o original) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(messageID, o)
}

// addNew adds the message unless it is known, and returns what is known of it then.
func (r *remembered) addNew(messageID string, o original) (first original, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, known = r.known(messageID); !known {
		r.keep(messageID, o)
	}
	return first, known
}

// known needs mu, as keep does.
func (r *remembered) known(messageID string) (o original, known bool) {
	if o, known = r.recent[messageID]; !known {
		o, known = r.before[messageID]
	}
	return o, known
}

func (r *remembered) keep(messageID string, o original) {
	if len(r.recent) >= r.size {
		r.recent, r.before = r.before, r.recent
		clear(r.recent)
	}
	r.recent[messageID] = o
}
