// Package poison is the operator's view of the poison queues, where the router puts what a handler cannot handle. The queue
// of a topic is a topic itself and only grows: an entry that was replayed is followed by a mark, a record with a header that
// names the entry's id, so every reader sees the same state and nothing is ever removed.
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

// ReplayedHeader marks the entry with the id that it holds as replayed. Such a record has no value.
const ReplayedHeader = "poison_replayed"

// Entry is a poisoned record.
type Entry struct {
	// ID is where it lies in the poison queue, partition:offset.
	ID string
	// Time is when it was poisoned, zero if that is not known.
	Time time.Time
	// Topic and Position are where the record was.
	Topic    string
	Position string
	Key      string
	// Handler could not handle it, for the reason.
	Handler string
	Reason  string
	// Replayed tells that it was replayed or discarded.
	Replayed bool
	Metadata message.Metadata
	// Payload is the record's value. Where that did not fit into the queue it is the first bytes, and ValueBytes, which else
	// is 0, how many the value has. See [Queue.Value].
	Payload    []byte
	ValueBytes int
}

// MarshalJSON leaves out the payload, which need not be text, and the headers.
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
		// ValueBytes is there only if the queue does not hold the whole value.
		ValueBytes int `json:"value_bytes,omitempty"`
	}{e.ID, e.Time, e.Topic, e.Position, e.Key, e.Handler, e.Reason, e.Replayed, e.ValueBytes})
}

// misplaced tells that the record never had a valid position.
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
		panic(err) // it is about the size alone
	}
	return &Queue{bus, topic, cache}
}

// Entries are all that the queue held when it was asked, replayed ones included, ascending within each partition.
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

// errNoEntry says that the queue has no record at a position any more.
var errNoEntry = errors.New("no such entry")

// entryAt reads the entry at the position in the queue.
func (q *Queue) entryAt(ctx context.Context, at events.Position) (*Entry, error) {
	var e *Entry
	itself := events.Range{Partition: at.Partition, After: at.Seq - 1, Through: at.Seq}
	err := q.bus.Log(events.PoisonTopic(q.topic)).Read(ctx, []events.Range{itself}, func(r pubsub.RawRecord) error {
		e = q.entry(r)
		return nil
	})
	if err == nil && e == nil {
		err = errNoEntry
	}
	if err != nil {
		return nil, fmt.Errorf("poison queue of %s at %s: %w", q.topic, at, err)
	}
	return e, nil
}

// entryID is where the entry lies.
func entryID(p events.Position) string {
	return fmt.Sprintf("%d:%d", p.Partition, p.Seq-events.EpochStart(p.Seq)-1)
}

// parseEntryID reads what entryID wrote, of an entry in the epoch that seq lies in.
func parseEntryID(id string, seq int64) (events.Position, error) {
	at, err := events.ParsePosition(id)
	at.Seq += events.EpochStart(seq) + 1
	return at, err
}

// poisonTime is when an entry was poisoned, zero if that is not known.
func poisonTime(h pubsub.Headers) time.Time {
	at, err := time.Parse(time.RFC3339, h.Get(router.PoisonTimeHeader))
	if err != nil {
		return time.Time{}
	}
	return at
}

func (q *Queue) entry(r pubsub.RawRecord) *Entry {
	metadata := r.Headers.Metadata()
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
