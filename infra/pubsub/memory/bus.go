// Package memory is the bus for unit tests. Watermill's gochannel delivers the messages. This package adds what gochannel
// lacks: a log of every topic with partitions and positions, consumer groups that go on where they have acknowledged, and
// order.
//
// A Publish appends to the partitions of the topic. Each partition that is assigned to a member of a group has a gochannel of
// its own. Through it one message at a time, of one record or of a bundle, goes to the member until it is acknowledged.
package memory

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Config is the configuration of a bus. The zero value is fine.
type Config struct {
	// Partitions is the number of partitions of every topic; default 4.
	Partitions int32
	// Epoch is the epoch of every topic.
	Epoch int64
	// Fail may be nil. Otherwise it is called before a message is accepted; its error refuses that message and those after it
	// in the call.
	Fail func(topic string, msg *message.Message) error
}

// Bus keeps everything in memory. It creates topics and groups when they are first used.
type Bus struct {
	config Config

	publishing sync.Mutex // one Publish at a time
	mu         sync.Mutex
	closed     bool
	keyless    int32
	topics     map[string][]*partition
	groups     map[groupTopic][]*progress
}

type groupTopic struct{ group, topic string }

var _ pubsub.Bus = (*Bus)(nil)

// NewBus returns an empty bus.
func NewBus(c Config) *Bus {
	if c.Partitions == 0 {
		c.Partitions = 4
	}
	return &Bus{
		config: c,
		topics: make(map[string][]*partition),
		groups: make(map[groupTopic][]*progress),
	}
}

// Publisher appends to the log.
func (b *Bus) Publisher() message.Publisher { return publisher{b} }

// Position returns the position of a message that was received or published.
func (b *Bus) Position(msg *message.Message) (events.Position, error) {
	if pos, ok := pubsub.Received(msg); ok {
		return pos, nil
	}
	if pos, ok := msg.Context().Value(publishedKey{}).(events.Position); ok {
		return pos, nil
	}
	return events.Position{}, errors.New("message was neither received nor accepted")
}

type publishedKey struct{}

// Ensure implements pubsub.Bus: every topic is created when it is first used.
func (b *Bus) Ensure(context.Context, ...string) error { return nil }

// Ready returns nil, because this log never loses anything.
func (b *Bus) Ready() error { return nil }

// Close refuses what is published from now on.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// Trim removes the records of the partition up to the position, as retention does.
func (b *Bus) Trim(topic string, through events.Position) {
	b.topic(topic)[through.Partition].trim(events.Offset(through.Seq) + 1)
}

func (b *Bus) topic(name string) []*partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	partitions, ok := b.topics[name]
	if !ok {
		for range b.config.Partitions {
			partitions = append(partitions, newPartition())
		}
		b.topics[name] = partitions
	}
	return partitions
}

func (b *Bus) group(group, topic string) []*progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := groupTopic{group, topic}
	partitions, ok := b.groups[at]
	if !ok {
		for range b.config.Partitions {
			partitions = append(partitions, newProgress())
		}
		b.groups[at] = partitions
	}
	return partitions
}

func (b *Bus) position(partition int32, offset int64) events.Position {
	return events.Position{Partition: partition, Seq: events.Seq(b.config.Epoch, offset)}
}

type publisher struct{ bus *Bus }

// Publish returns nil when all messages are in the log, else a [pubsub.PublishError].
func (p publisher) Publish(topic string, msgs ...*message.Message) error {
	p.bus.publishing.Lock()
	defer p.bus.publishing.Unlock()
	for i, msg := range msgs {
		if err := p.publish(topic, msg); err != nil {
			return &pubsub.PublishError{Accepted: i, Err: err}
		}
	}
	return nil
}

func (p publisher) publish(topic string, msg *message.Message) error {
	number, err := p.bus.choose(msg.Metadata.Get(pubsub.KeyHeader))
	if err != nil {
		return err
	}
	if p.bus.config.Fail != nil {
		if err := p.bus.config.Fail(topic, msg); err != nil {
			return err
		}
	}
	offset := p.bus.topic(topic)[number].append(msg.Copy())
	msg.SetContext(context.WithValue(msg.Context(), publishedKey{}, p.bus.position(number, offset)))
	return nil
}

// Close refuses what is published from now on.
func (p publisher) Close() error { return p.bus.Close() }

// choose returns the partition of the key, or the next partition in turn without a key.
func (b *Bus) choose(key string) (int32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, pubsub.ErrClosed
	}
	if key != "" {
		return events.Partition(key, b.config.Partitions), nil
	}
	b.keyless++
	return b.keyless % b.config.Partitions, nil
}
