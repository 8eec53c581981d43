package memory

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// bundle is a run of consecutive records of a partition that one message stands for. It travels in the message's context,
// also when gochannel sends the message again.
type bundle struct {
	first   events.Position    // the position of the first record
	records []*message.Message // as they are in the log

	mu     sync.Mutex
	done   int                // how many, counted from the first, were acknowledged before the last delivery
	handed []*message.Message // the messages of the last delivery, from the first record that was not done
}

type bundleKey struct{}

// hand returns a message for each record that is not done, the same ones until the next delivery.
func (b *bundle) hand(ctx context.Context) []*message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.handed == nil {
		for i := b.done; i < len(b.records); i++ {
			msg := b.records[i].Copy()
			at := events.Position{Partition: b.first.Partition, Seq: b.first.Seq + int64(i)}
			msg.SetContext(context.WithValue(ctx, receivedKey{}, at))
			b.handed = append(b.handed, msg)
		}
	}
	return b.handed
}

// acknowledged returns how many of the records, counted from the first, were acknowledged.
func (b *bundle) acknowledged() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acknowledgedLocked()
}

func (b *bundle) acknowledgedLocked() int {
	n := b.done
	for _, msg := range b.handed {
		select {
		case <-msg.Acked():
			n++
		default:
			return n
		}
	}
	return n
}

// again prepares the delivery after a refusal, which leaves out what was acknowledged.
func (b *bundle) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.handed = b.acknowledgedLocked(), nil
}
