package memory

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// bundle is what a message stands for: records of a partition that follow each other. It travels in the message's context,
// also when gochannel sends the message again.
type bundle struct {
	first   events.Position    // of the first record
	records []*message.Message // as they are in the log

	mu     sync.Mutex
	done   int                // how many, from the first, were acknowledged before the last delivery
	handed []*message.Message // to the reader of the last delivery, from the first that was not done
}

type bundleKey struct{}

// hand returns the records that are not done, each as a message of its own: the same ones until the next delivery.
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

// acknowledged is how many of the records, from the first, were.
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

// again is for a delivery after a refusal: what was acknowledged by then does not come again.
func (b *bundle) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.handed = b.acknowledgedLocked(), nil
}
