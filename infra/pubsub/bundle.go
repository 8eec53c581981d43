package pubsub

import (
	"context"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// Bundle is a run of consecutive records of a partition that one received message stands for. It travels in the message's
// context. A reader that takes records as they are, or many at once, makes no message for each.
type Bundle struct {
	// Records are the records, in order; at least one. Nobody may change them.
	Records []RawRecord

	done atomic.Int64
}

// Done notes that the reader is done with the first n records. After a nack of the message the others come again. An
// acknowledgement of the message stands for all.
func (b *Bundle) Done(n int) { b.done.Store(int64(n)) }

// Acknowledged returns how many of the records, counted from the first, the reader is done with.
func (b *Bundle) Acknowledged() int { return int(b.done.Load()) }

type bundleKey struct{}

// WithBundle returns the context of the message that stands for the bundle.
func WithBundle(ctx context.Context, b *Bundle) context.Context {
	return context.WithValue(ctx, bundleKey{}, b)
}

// BundleOf returns the records that a received message stands for, or nil if its subscriber makes no bundles.
func BundleOf(msg *message.Message) *Bundle {
	b, _ := msg.Context().Value(bundleKey{}).(*Bundle)
	return b
}

// Message returns the record as a message of its own, such as a subscriber without bundles gets. Its context is ctx, with the
// position. To acknowledge it has no effect on the bundle that the record comes from.
func (r *RawRecord) Message(ctx context.Context) *message.Message {
	msg := message.NewMessage(r.Headers.ID(), r.Value)
	msg.Metadata = r.Headers.All()
	msg.SetContext(WithPosition(ctx, r.Position))
	return msg
}

type positionKey struct{}

// WithPosition returns the context of a message that was received, for [Received].
func WithPosition(ctx context.Context, at events.Position) context.Context {
	return context.WithValue(ctx, positionKey{}, at)
}

// Received returns the position of a message that was received, and whether it was.
func Received(msg *message.Message) (events.Position, bool) {
	at, ok := msg.Context().Value(positionKey{}).(events.Position)
	return at, ok
}
