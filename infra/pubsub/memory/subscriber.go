package memory

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"millrace/events"
	"millrace/infra/pubsub"
)

// redeliveryPause keeps a record that is refused again and again from using a whole processor.
const redeliveryPause = 5 * time.Millisecond

// Subscriber is a member of a group. The first member that subscribes reads all partitions; the next one reads them when the
// first has closed.
type Subscriber struct {
	bus    *Bus
	group  string
	config pubsub.SubscriberConfig

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// Subscriber returns a new member of the group.
func (b *Bus) Subscriber(group string, config pubsub.SubscriberConfig) (message.Subscriber, error) {
	return &Subscriber{bus: b, group: group, config: config, closing: make(chan struct{})}, nil
}

// Subscribe delivers until the context is done or the subscriber is closed. Messages that are not acknowledged by then come
// again.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, pubsub.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *message.Message)
	var reading sync.WaitGroup
	for p, partition := range s.bus.topic(topic) {
		r := &reader{
			bus: s.bus, config: s.config, topic: topic, number: int32(p),
			partition: partition, progress: s.bus.group(s.group, topic)[p], out: out,
		}
		reading.Go(func() { r.run(ctx) })
	}
	s.running.Go(func() {
		defer close(out)
		defer cancel()
		select {
		case <-ctx.Done():
		case <-s.closing:
		}
		cancel()
		reading.Wait()
	})
	return out, nil
}

// Close returns when every subscription has ended.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// reader delivers the records of one partition to the member, through a gochannel that waits until each is acknowledged.
type reader struct {
	bus       *Bus
	config    pubsub.SubscriberConfig
	topic     string
	number    int32
	partition *partition
	progress  *progress
	out       chan<- *message.Message

	mu   sync.Mutex
	last *message.Message // the last message that was delivered
}

func (r *reader) run(ctx context.Context) {
	select {
	case <-r.progress.owner:
		defer func() { r.progress.owner <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	if !r.resume(ctx) {
		return
	}
	if r.config.Assigned != nil {
		first, _ := r.partition.bounds()
		r.config.Assigned(r.bus.position(r.number, max(first, r.progress.get())-1))
	}
	if r.config.Released != nil {
		defer r.config.Released(r.number)
	}
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true, PreserveContext: true}, nil)
	in, _ := channel.Subscribe(context.WithoutCancel(ctx), r.topic) // fails only on a closed channel
	var relaying sync.WaitGroup
	relaying.Go(func() { r.relay(ctx, in) })
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = channel.Close() // it never fails
	})
	r.pump(ctx, channel)
	<-closed
	relaying.Wait()
}

// resume goes back to what the handler has kept. It reports false if the context ended before the handler could say.
func (r *reader) resume(ctx context.Context) bool {
	if r.config.Progress == nil {
		return true
	}
	for {
		kept, err := r.config.Progress(ctx)
		if err == nil {
			kept = r.bus.Log(r.topic).Current(kept)
			r.progress.commit(min(r.progress.get(), events.Offset(max(kept[r.number], events.Seq(r.bus.config.Epoch, -1)))+1))
			return true
		}
		select {
		case <-time.After(redeliveryPause):
		case <-ctx.Done():
			return false
		}
	}
}

// pump sends one message after the other and commits each when it is acknowledged. Of a bundle that was refused it commits
// the records that were acknowledged.
func (r *reader) pump(ctx context.Context, channel message.Publisher) {
	for {
		records, first, more := r.partition.from(r.progress.get(), max(r.config.Bundle, 1))
		if len(records) == 0 {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return
			}
		}
		if r.config.Gather > 0 && len(records) < r.config.Bundle {
			select {
			case <-time.After(r.config.Gather):
			case <-ctx.Done():
				return
			}
			records, first, _ = r.partition.from(first, r.config.Bundle)
		}
		r.sent(nil)
		if err := channel.Publish(r.topic, r.message(ctx, records, first)); err != nil {
			<-ctx.Done() // nothing else closes the channel
		}
		if !r.acknowledged() {
			r.progress.commit(r.progress.get())
			return
		}
		r.progress.commit(first + int64(len(records)))
	}
}

// message returns a message that stands for the records, the first of which is at the offset.
func (r *reader) message(ctx context.Context, records []*message.Message, first int64) *message.Message {
	if r.config.Bundle < 1 {
		msg := records[0].Copy()
		msg.SetContext(pubsub.WithPosition(ctx, r.bus.position(r.number, first)))
		return msg
	}
	b := &pubsub.Bundle{Records: make([]pubsub.RawRecord, len(records))}
	for i, msg := range records {
		b.Records[i] = r.bus.raw(r.number, first+int64(i), msg)
	}
	r.progress.send(first, b)
	return message.NewMessageWithContext(ctx, "", nil)
}

// relay passes on what the gochannel sends. After a refusal that is the same message again.
func (r *reader) relay(ctx context.Context, in <-chan *message.Message) {
	for msg := range in {
		if r.redelivery() {
			select {
			case <-time.After(redeliveryPause):
			case <-ctx.Done():
			}
		}
		if left := r.progress.left(); left != nil {
			msg.SetContext(pubsub.WithBundle(msg.Context(), left))
		}
		r.sent(msg)
		select {
		case r.out <- msg:
		case <-ctx.Done():
		}
	}
}

func (r *reader) sent(msg *message.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = msg
}

func (r *reader) redelivery() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil
}

// acknowledged reports whether the last message was acknowledged, and was not just given up because the reader is closing.
func (r *reader) acknowledged() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		return false
	}
	select {
	case <-r.last.Acked():
		return true
	default:
		return false
	}
}
