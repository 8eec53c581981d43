// Package pubsub defines what the program needs of a message log beyond Watermill's Publisher and Subscriber: the position of
// a record, notice when a partition is assigned to a process, and reading the log without consuming it. The packages below it
// implement it over Kafka and over Watermill's gochannel; both pass the suite in pubsubtest.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// KeyHeader is the metadata entry that holds a message's key. It becomes the key of the record, not a header.
const KeyHeader = "millrace_key"

// ReplayHandlerHeader names the only handler that a record replayed from the poison queue is for. All other consumers skip
// it, because the record repeats one that lies elsewhere in the log.
const ReplayHandlerHeader = "millrace_replay_handler"

// EmbeddedCluster is how the id of a cluster begins that an embedded broker has made.
const EmbeddedCluster = "millrace-"

// Bus is a message log: publishing, consuming in groups and reading.
type Bus interface {
	// Publisher returns the publisher to all topics. A Publish of several messages keeps their order within each partition:
	// the log never contains one without those before it in the call. If not all were accepted the error is a
	// *[PublishError]. Publish returns within the bus's publish deadline. Concurrent calls are independent of each other. The
	// publisher belongs to the bus and is closed with it.
	Publisher() message.Publisher
	// Subscriber returns a new member of the consumer group. The group goes on after the last record that it acknowledged; a
	// new group begins at the oldest record. One message of a partition is in flight at a time; after a nack the same message
	// comes again.
	Subscriber(group string, config SubscriberConfig) (message.Subscriber, error)
	// Position returns the position of a message that was received from a subscriber or accepted by the publisher.
	Position(msg *message.Message) (events.Position, error)
	// Log returns a reader of the topic.
	Log(topic string) Log
	// Groups returns the consumer groups as an operator sees them.
	Groups() Groups
	// Ensure returns when the topics exist, with as many partitions as all others, and their poison queues. Those of
	// [events.Topics] always do.
	Ensure(ctx context.Context, topics ...string) error
	// Ready returns why nothing can be published for now, or nil if nothing is known against it.
	Ready() error
	// Close stops publishing and reading. Whoever asked for subscribers closes them before.
	Close() error
}

// SubscriberConfig configures a member of a consumer group. The hooks tell it which partitions it reads. Calls for one
// partition never overlap. Every hook may be nil.
type SubscriberConfig struct {
	// Bundle is how many waiting records of a partition one message may stand for; see [BundleOf]. With 0 each record is a
	// message of its own. The context of a bundle is done when the partition is being taken away; what is left of the bundle need not be handled
	// then.
	Bundle int
	// Gather is about how long a record may wait so that more of its partition get into the same bundle; 0 is not at all.
	Gather time.Duration
	// Progress returns, by partition, the position up to which the handler's work is kept in the place where the handler
	// keeps it. Where nothing is kept the partition is absent. If the group has committed more than that, it goes back to
	// there. Without Progress the group goes on from its committed offsets.
	Progress func(ctx context.Context) (map[int32]int64, error)
	// Assigned is called before the first message of the partition, which comes after the position.
	Assigned func(after events.Position)
	// Released is called after the last message of the partition was acknowledged or given up.
	Released func(partition int32)
}

// Log reads a topic's records, and how far they go, without being a consumer.
type Log interface {
	// Partitions returns how many partitions the topic has.
	Partitions() int32
	// End returns, for every partition, the position of the last record that a reader can still get, or the beginning of the
	// epoch (0 in the first one) if there is none. It does not count what readers never get: markers and aborted records of
	// transactions, records after the beginning of an open one, and records that retention has removed. So a consumer has
	// reached End exactly when it has handled all that there is.
	End(ctx context.Context) (map[int32]int64, error)
	// Bounds returns how far the offsets of every partition go, whether or not readers get what is there.
	Bounds(ctx context.Context) (map[int32]Bounds, error)
	// Committed returns, for every partition, the position up to which the group has acknowledged, in the form that
	// [Log].Current returns, or 0 if it has acknowledged nothing.
	Committed(ctx context.Context, group string) (map[int32]int64, error)
	// Current converts positions to the present epochs. A consumer that is done up to a position passed in is also done up to
	// the one returned, and its next record comes right after that. What lay between was lost.
	Current(positions map[int32]int64) map[int32]int64
	// Read calls visit for every record in the ranges, ascending within each partition. It returns ErrTrimmed if the log no
	// longer has the beginning of a range, also where that lies in an earlier epoch. If visit returns ErrSkipRest, Read goes
	// on with the other ranges; any other error of visit ends Read and is returned.
	Read(ctx context.Context, ranges []events.Range, visit func(RawRecord) error) error
}

// Groups are the consumer groups of the log.
type Groups interface {
	// List returns, of the groups whose names are wanted, all that have members or have acknowledged something, with the number
	// of members of each.
	List(ctx context.Context, wanted func(group string) bool) (map[string]int, error)
	// Begin makes a new group begin elsewhere than at the oldest record, and reports whether it did. It changes nothing if the
	// group has acknowledged something in the topic before.
	Begin(ctx context.Context, group, topic string, at Start) (bool, error)
	// Delete forgets what the group has acknowledged. It returns ErrInUse while the group has members.
	Delete(ctx context.Context, group string) error
}

// Start says where a group begins: in every partition at the first record that got into the log at the time or later, or, if
// there are offsets, at these, and in other partitions at the oldest record. The zero value means the oldest records.
type Start struct {
	Time    time.Time
	Offsets map[int32]int64
}

// ErrInUse is returned by [Groups].Delete for a group that has members.
var ErrInUse = errors.New("the group has members")

// Bounds say how far the offsets of a partition go.
type Bounds struct {
	// Stable is the position before the first record of the oldest open transaction, or Written if none is open. What lies up
	// to here never changes, and readers get nothing after it.
	Stable int64
	// Written is the last position that is in use.
	Written int64
}

// RawRecord is a record as it is in the log.
type RawRecord struct {
	events.Position
	Key, Value []byte
	Headers    Headers
	// Replay reports whether the record has [ReplayHandlerHeader].
	Replay bool
}

// Headers are the headers of a record and, under [KeyHeader], its key, as a subscriber gets them.
type Headers interface {
	events.Headers
	// ID returns the id of the message that was published, which Watermill keeps in a header of its own.
	ID() string
}

// ErrTrimmed is returned by [Log].Read if retention has removed records that were asked for.
var ErrTrimmed = errors.New("the log no longer has these records")

// ErrSkipRest is returned by visitors of [Log].Read that want no more of the range which the record lies in.
var ErrSkipRest = errors.New("skip the rest of the range")

// The reasons why a Publish was refused without trying. Nothing of it gets into the log.
var (
	ErrClosed = errors.New("the bus is closed")
	ErrBusy   = errors.New("too many messages are being published")
	// ErrNoTopic says that the topic does not exist.
	ErrNoTopic = errors.New("no such topic")
	// ErrUnsettled says that the log does not go on where it was, and that this is not settled yet.
	ErrUnsettled = errors.New("the log is not settled")
)

// Incident is a loss that was found: the log has lost something, or a group has to handle something again.
type Incident struct {
	Kind  IncidentKind
	Topic string
	// Group is the consumer group that the incident concerns; empty means all.
	Group string
	// Records is how many records the incident concerns at least, or 0 if that is not known.
	Records int64
}

// IncidentKind says what happened.
type IncidentKind string

// The kinds of incidents.
const (
	// TopicAnew says that the topic was deleted and made anew.
	TopicAnew IncidentKind = "topic_anew"
	// LogCut says that partitions have lost their end.
	LogCut IncidentKind = "log_cut"
	// RecordsGone says that a group goes on after records that it has not handled, because the log no longer has them.
	RecordsGone IncidentKind = "records_gone"
	// HandledAgain says that a group handles records again that it has committed, because its handler has lost them.
	HandledAgain IncidentKind = "handled_again"
)

// PublishError says how many messages of a Publish were accepted.
type PublishError struct {
	// Accepted is how many messages, counted from the first, the broker has acknowledged. Those after them were refused, or
	// their outcome is unknown. In each partition the log contains none of them without those before it.
	Accepted int
	Err      error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publish: %d accepted: %v", e.Accepted, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }
