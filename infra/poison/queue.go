// Package poison is the operator's view of the poison queues, to which the router moves records that a handler cannot handle.
// The queue of a topic is itself a topic and only grows. When an entry was replayed, a mark follows it: a record with a
// header that holds the entry's id. So all readers see the same state, and nothing is ever removed.
package poison

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

// ReplayedHeader marks the entry whose id it holds as replayed. A record with this header has no value.
const ReplayedHeader = "poison_replayed"

// Entry is a poisoned record.
type Entry struct {
	// ID is the entry's place in the poison queue: partition:offset.
	ID string
	// Time is when the record was poisoned, or zero if that is not known.
	Time time.Time
	// Topic and Position are the place of the original record.
	Topic    string
	Position string
	Key      string
	// Handler is the handler that could not handle the record, and Reason says why.
	Handler string
	Reason  string
	// Replayed reports whether the entry was replayed or discarded.
	Replayed bool
	Metadata message.Metadata
	// Payload is the record's value. If the value did not fit into the queue, Payload is its first bytes and ValueBytes its
	// length; else ValueBytes is 0. See [Queue.Value].
	Payload    []byte
	ValueBytes int
}

// MarshalJSON leaves out the headers and the payload, which need not be text.
func (e *Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID       string    `json:"id"`
		Time     time.Time `json:"time,omitzero"`
		Topic    string    `json:"topic"`
		Position string    `json:"position"`
		Key      string    `json:"key"`
		Handler  string    `json:"handler"`
		Reason   string    `json:"reason"`
		Replayed bool      `json:"replayed"`
		// ValueBytes is present only if the queue does not hold the whole value.
		ValueBytes int `json:"value_bytes,omitempty"`
	}{e.ID, e.Time, e.Topic, e.Position, e.Key, e.Handler, e.Reason, e.Replayed, e.ValueBytes})
}

// misplaced reports whether the record never had a valid position.
func (e *Entry) misplaced() bool { return e.Reason == router.ReasonMisplaced }

// Queue is the poison queue of one topic.
type Queue struct {
	bus      pubsub.Bus
	topic    string
	searched *lru.Cache[events.Position, searched]
}

// New returns the poison queue of the topic.
func New(bus pubsub.Bus, topic string) *Queue {
	cache, err := lru.New[events.Position, searched](maxSearched)
	if err != nil {
		panic(err) // only the size can be wrong
	}
	return &Queue{bus, topic, cache}
}

// Topic returns the topic whose poison queue it is.
func (q *Queue) Topic() string { return q.topic }

// End returns where the queue ends. While that stays the same so do the entries, but for those that retention removes.
func (q *Queue) End(ctx context.Context) (map[int32]int64, error) {
	end, err := q.bus.Log(events.PoisonTopic(q.topic)).End(ctx)
	if err != nil {
		return nil, fmt.Errorf("poison queue of %s: %w", q.topic, err)
	}
	return end, nil
}

// Entries returns all entries that the queue holds now, replayed ones included, ascending within each partition.
func (q *Queue) Entries(ctx context.Context) ([]*Entry, error) {
	log := q.bus.Log(events.PoisonTopic(q.topic))
	end, err := log.End(ctx)
	if err != nil {
		return nil, fmt.Errorf("poison queue of %s: %w", q.topic, err)
	}
	var entries []*Entry
	replayed := make(map[string]bool)
	for partition := range log.Partitions() {
		through := end[partition]
		all := events.Range{Partition: partition, After: events.EpochStart(through), Through: through}
		err := log.Read(ctx, []events.Range{all}, func(r pubsub.RawRecord) error {
			if id := r.Headers.Get(ReplayedHeader); id != "" {
				replayed[id] = true
			} else {
				entries = append(entries, q.entry(r))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("poison queue of %s: %w", q.topic, err)
		}
	}
	for _, e := range entries {
		e.Replayed = replayed[e.ID]
	}
	return entries, nil
}

// ErrNoEntry says that the queue has no entry of an id, or no longer.
var ErrNoEntry = errors.New("no such entry")

// Entry returns the entry of the id, and reads nothing else. Whether it was replayed, which other records tell, is not
// known. It returns [ErrNoEntry] if the queue has none of the id.
func (q *Queue) Entry(ctx context.Context, id string) (*Entry, error) {
	log := q.bus.Log(events.PoisonTopic(q.topic))
	end, err := log.End(ctx)
	if err != nil {
		return nil, fmt.Errorf("poison queue of %s: %w", q.topic, err)
	}
	at, err := events.ParsePosition(id)
	through := end[at.Partition] // 0 if there is no such partition
	if err == nil {
		at, err = parseEntryID(id, through)
	}
	if err != nil || at.Seq <= events.EpochStart(through) || at.Seq > through {
		return nil, fmt.Errorf("%w: %.80q", ErrNoEntry, id)
	}
	e, err := q.entryAt(ctx, at)
	if errors.Is(err, pubsub.ErrTrimmed) {
		return nil, fmt.Errorf("%w: %w", ErrNoEntry, err)
	}
	return e, err
}

// entryAt reads the entry at the position in the queue.
func (q *Queue) entryAt(ctx context.Context, at events.Position) (*Entry, error) {
	var e *Entry
	itself := events.Range{Partition: at.Partition, After: at.Seq - 1, Through: at.Seq}
	err := q.bus.Log(events.PoisonTopic(q.topic)).Read(ctx, []events.Range{itself}, func(r pubsub.RawRecord) error {
		if r.Headers.Get(ReplayedHeader) == "" {
			e = q.entry(r)
		}
		return nil
	})
	if err == nil && e == nil {
		err = ErrNoEntry
	}
	if err != nil {
		return nil, fmt.Errorf("poison queue of %s at %s: %w", q.topic, at, err)
	}
	return e, nil
}

// entryID returns the id of the entry at the position.
func entryID(p events.Position) string {
	return fmt.Sprintf("%d:%d", p.Partition, p.Seq-events.EpochStart(p.Seq)-1)
}

// parseEntryID reads what entryID returned, for an entry in the epoch that seq lies in.
func parseEntryID(id string, seq int64) (events.Position, error) {
	at, err := events.ParsePosition(id)
	at.Seq += events.EpochStart(seq) + 1
	return at, err
}

// poisonTime returns when the record was poisoned, or the zero time if that is not known.
func poisonTime(h pubsub.Headers) time.Time {
	at, err := time.Parse(time.RFC3339, h.Get(router.PoisonTimeHeader))
	if err != nil {
		return time.Time{}
	}
	return at
}

func (q *Queue) entry(r pubsub.RawRecord) *Entry {
	metadata := message.Metadata(r.Headers.All())
	valueBytes, err := strconv.Atoi(metadata.Get(router.PoisonValueBytesHeader))
	if err != nil || valueBytes < len(r.Value) {
		valueBytes = 0
	}
	return &Entry{
		ID: entryID(r.Position), ValueBytes: valueBytes,
		Time: poisonTime(r.Headers), Topic: q.topic, Position: metadata.Get(router.PoisonPositionHeader),
		Key: metadata.Get(router.PoisonKeyHeader), Handler: metadata.Get(router.PoisonHandlerHeader),
		Reason: metadata.Get(router.PoisonReasonHeader), Metadata: metadata, Payload: r.Value,
	}
}
