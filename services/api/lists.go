package api

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"millrace/infra/poison"
)

// listLife is how old a list may be although nothing was added to its queue, because retention removes entries from there.
const listLife = time.Minute

// lists keeps what the poison queues hold, without contents, so that somebody who watches a queue does not have it read again
// and again.
type lists struct {
	mu      sync.Mutex
	byTopic map[string]list
}

type list struct {
	end     map[int32]int64
	read    time.Time
	entries []*poison.Entry
}

// entries returns the entries of the queue, which must not be changed. It reads the queue if something was added to it since it
// was read. One call does so at a time.
func (l *lists) entries(ctx context.Context, q *poison.Queue) ([]*poison.Entry, error) {
	end, err := q.End(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.byTopic[q.Topic()]
	if ok && maps.Equal(known.end, end) && time.Since(known.read) < listLife {
		return slices.Clone(known.entries), nil
	}
	entries, err := q.Entries(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		e.Payload, e.Metadata = nil, nil
	}
	if l.byTopic == nil {
		l.byTopic = make(map[string]list)
	}
	l.byTopic[q.Topic()] = list{end: end, read: time.Now(), entries: entries}
	return slices.Clone(entries), nil
}
