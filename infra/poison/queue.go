// Package poison is the operator's view of the poison queues, where the router puts what a handler cannot handle. The queue
// of a topic is a topic itself and only grows: an entry that was replayed is followed by a mark, a record with a header that
// names the entry's id, so every reader sees the same state and nothing is ever removed.
package poison

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

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
	bus   pubsub.Bus
	topic string
}

// New returns the poison queue of the topic.
func New(bus pubsub.Bus, topic string) *Queue { return &Queue{bus, topic} }

// Entries are all that the queue held when it was asked, replayed ones included, ascending within each partition.
func (q *Queue) Entries(ctx context.Context) ([]*Entry, error) {
	var entries []*Entry
	replayed := make(map[string]bool)
	_, err := q.read(ctx, nil, func(r pubsub.RawRecord, metadata message.Metadata) {
		if id := metadata.Get(ReplayedHeader); id != "" {
			replayed[id] = true
		} else {
			entries = append(entries, q.entry(r, metadata))
		}
	})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		e.Replayed = replayed[e.ID]
	}
	return entries, nil
}

// read visits all that the queue holds after the positions, by partition, and answers up to where that is.
func (q *Queue) read(
	ctx context.Context, after map[int32]int64, visit func(pubsub.RawRecord, message.Metadata),
) (map[int32]int64, error) {
	log := q.bus.Log(events.PoisonTopic(q.topic))
	end, err := log.End(ctx)
	if err != nil {
		return nil, fmt.Errorf("poison queue of %s: %w", q.topic, err)
	}
	for partition := range log.Partitions() {
		through := end[partition]
		from, known := after[partition]
		if !known {
			from = events.EpochStart(through)
		}
		unread := []events.Range{{Partition: partition, After: from, Through: through}}
		err := log.Read(ctx, unread, func(r pubsub.RawRecord) error {
			visit(r, r.Metadata())
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("poison queue of %s: %w", q.topic, err)
		}
	}
	return end, nil
}

// entryID is where the entry lies.
func entryID(p events.Position) string {
	return fmt.Sprintf("%d:%d", p.Partition, p.Seq-events.EpochStart(p.Seq)-1)
}

func (q *Queue) entry(r pubsub.RawRecord, metadata message.Metadata) *Entry {
	at, err := time.Parse(time.RFC3339, metadata.Get(router.PoisonTimeHeader))
	if err != nil {
		at = time.Time{}
	}
	valueBytes, err := strconv.Atoi(metadata.Get(router.PoisonValueBytesHeader))
	if err != nil || valueBytes < len(r.Value) {
		valueBytes = 0
	}
	return &Entry{
		ID: entryID(r.Position), ValueBytes: valueBytes,
		Time: at, Topic: q.topic, Position: metadata.Get(router.PoisonPositionHeader),
		Key: metadata.Get(router.PoisonKeyHeader), Handler: metadata.Get(router.PoisonHandlerHeader),
		Reason: metadata.Get(router.PoisonReasonHeader), Metadata: metadata, Payload: r.Value,
	}
}
