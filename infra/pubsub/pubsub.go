// Package pubsub says what the program needs of a message log beyond Watermill's Publisher and Subscriber: the position
// of a record, when a partition is assigned to a process, and reading the log without consuming it. Implementations are in the
// packages below, over Kafka and over Watermill's gochannel, and pass pubsubtest.
package pubsub

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// KeyHeader is the metadata entry that holds the record's key. It is published as the key, not as a header.
const KeyHeader = "millrace_key"

// ReplayHandlerHeader names the one handler that a record replayed from the poison queue is for. The record repeats one
// that lies elsewhere in the log, so everybody else passes it by.
const ReplayHandlerHeader = "millrace_replay_handler"

// Bus is a message log: publishing, consuming in groups and reading.
type Bus interface {
	// Publisher publishes to any topic. A Publish of several messages to one partition keeps their order: none is ever in
	// the log without those before it in the call. When not all were accepted the error is a *[PublishError]. Publish
	// returns within the bus's publish deadline. Concurrent calls are independent. The publisher belongs to the bus and is
	// closed with it.
	Publisher() message.Publisher
	// Subscriber joins the consumer group. The group goes on where it has acknowledged; a new one starts at the oldest
	// record. One message of a partition is in flight at a time; after a nack the same comes again.
	Subscriber(group string, config SubscriberConfig) (message.Subscriber, error)
	// Records are the records that a received message stands for, in order, each as a message with a position of its own.
	// It is the message itself unless the subscriber was asked for bundles. Each is acknowledged when it is done with, and
	// the message after the last; after a nack of the message those come again that are not acknowledged.
	Records(msg *message.Message) []*message.Message
	// Position is the position of a message that was received from a subscriber or accepted by the publisher.
	Position(msg *message.Message) (events.Position, error)
	// Log reads the topic.
	Log(topic string) Log
	// Ready returns why nothing can be published for now, nil if it can as far as is known.
	Ready() error
	// Close stops publishing and reading. Subscribers are closed by whoever asked for them, before.
	Close() error
}

// SubscriberConfig are told which partitions a subscriber reads. Calls for one partition never overlap; any may be nil.
type SubscriberConfig struct {
	// Bundle is how many records of a partition that wait together one message may stand for; 0: one. See [Bus].Records. A
	// bundle's context is done when the partition is being taken away: what is left of it need not be handled here.
	Bundle int
	// Progress returns, by partition, the position up to which what the handler has done is kept where it keeps it; nothing
	// of a partition that is absent. The group then goes back to there if it has committed more. Nil: it goes on where it
	// has committed.
	Progress func(ctx context.Context) (map[int32]int64, error)
	// Assigned comes before the first message of the partition, which lies after the position.
	Assigned func(after events.Position)
	// Released comes after the last message of the partition was acknowledged or given up.
	Released func(partition int32)
}

// Log reads a topic's records and how far they go, without being a consumer.
type Log interface {
	// Partitions is how many the topic has.
	Partitions() int32
	// End returns for every partition the position of the last record that a reader can still be given, and the beginning of
	// the epoch (0 in the first one) for a partition without any. What a reader is never given does not count: markers and
	// aborted records of transactions, records behind an open one, and what retention has removed. So whoever has handled all
	// that there is has reached End, and whoever has not, has not.
	End(ctx context.Context) (map[int32]int64, error)
	// Bounds returns how far the offsets of every partition go, whether or not readers are given what is there.
	Bounds(ctx context.Context) (map[int32]Bounds, error)
	// Committed answers for every partition the position up to which the group has acknowledged, as [Log].Current returns
	// it, 0 if it never has.
	Committed(ctx context.Context, group string) (map[int32]int64, error)
	// Current returns the positions as those of the present epochs: who has done all up to a position given has done all up
	// to the one returned, and what comes next lies right behind that. What lies between was lost.
	Current(positions map[int32]int64) map[int32]int64
	// Read calls visit for every record in the ranges, ascending within each partition. ErrTrimmed: the log no longer
	// has the beginning of a range, also where that lies in an earlier epoch. An error of visit ends it and is returned,
	// but for ErrSkipRest, which goes on with the other ranges.
	Read(ctx context.Context, ranges []events.Range, visit func(RawRecord) error) error
}

// Bounds are how far the offsets of a partition go.
type Bounds struct {
	// Stable is the position before the first record of the oldest transaction that is still open; without one, Written.
	// Nothing up to here will change, and readers get nothing behind it.
	Stable int64
	// Written is the last position that is taken.
	Written int64
}

// RawRecord is a record as it stands in the log.
type RawRecord struct {
	events.Position
	Key, Value []byte
	Headers    Headers
	// Replay tells that it has [ReplayHandlerHeader].
	Replay bool
}

// Headers are those of a record. Who needs only some of them makes nothing of the others.
type Headers interface {
	// Get returns the value of a header, empty without it.
	Get(name string) string
	// Metadata returns all of them and the key, as a subscriber gets them.
	Metadata() message.Metadata
}

// ErrTrimmed is returned by [Log].Read where retention has removed what was asked for.
var ErrTrimmed = errors.New("the log no longer has these records")

// ErrSkipRest is for visitors of [Log].Read who want no more of the range that the record lies in.
var ErrSkipRest = errors.New("skip the rest of the range")

// Why a Publish was refused without trying: nothing of it gets into the log.
var (
	ErrClosed = errors.New("the bus is closed")
	ErrBusy   = errors.New("too many messages are being published")
	// ErrUnsettled: the log was found not to go on where it was.
	ErrUnsettled = errors.New("the log is not settled")
)

// Incident is something that the log was found to have lost, or a group to have to do again.
type Incident struct {
	Kind  IncidentKind
	Topic string
	// Group is the consumer group that is concerned; empty: all.
	Group string
	// Records is how many at least, 0 where that is not known.
	Records int64
}

// IncidentKind is what happened.
type IncidentKind string

// The kinds of incidents.
const (
	// TopicAnew: the topic was deleted and made anew.
	TopicAnew IncidentKind = "topic_anew"
	// LogCut: partitions have lost their end.
	LogCut IncidentKind = "log_cut"
	// RecordsGone: a group goes on behind records that it has not handled, since the log no longer has them.
	RecordsGone IncidentKind = "records_gone"
	// HandledAgain: what a group has committed is handled again, since its handler no longer has it.
	HandledAgain IncidentKind = "handled_again"
)

// PublishError says how much of an ordered batch was accepted.
type PublishError struct {
	// Accepted is how many messages, from the first, the broker has acknowledged. Those behind were refused, or what became
	// of them is unknown: of one partition's then none is in the log without those before it.
	Accepted int
	Err      error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publish: %d accepted: %v", e.Accepted, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }
