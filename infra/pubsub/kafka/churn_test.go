package kafka

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/infra/pubsub"
)

// progress notes how far the records of each key were handled. A record may come again, but none may be missing before it.
type progress struct {
	mu      sync.Mutex
	next    map[string]int
	skipped []string
	moved   chan struct{}
}

func (p *progress) handle(msg *message.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := msg.Metadata.Get(pubsub.KeyHeader)
	var number int
	if _, err := fmt.Sscan(string(msg.Payload), &number); err != nil || number > p.next[key] {
		p.skipped = append(p.skipped, fmt.Sprintf("%s %s after %d", key, msg.Payload, p.next[key]))
		return
	}
	p.next[key] = max(p.next[key], number+1)
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// reached waits until the records of every key were handled up to the number.
func (p *progress) reached(t *testing.T, keys, number int) {
	t.Helper()
	giveUp := time.After(60 * time.Second)
	for {
		p.mu.Lock()
		done := 0
		for _, next := range p.next {
			if next >= number {
				done++
			}
		}
		p.mu.Unlock()
		if done == keys {
			return
		}
		select {
		case <-p.moved:
		case <-giveUp:
			require.FailNow(t, "gave up waiting", "%d of %d keys reached %d", done, keys, number)
		}
	}
}

func TestMembersComeAndGoAndNothingIsSkipped(t *testing.T) {
	const keys, each = 16, 400
	at := brokers(t)
	topic := newTopic(t, at, 8)
	bus := open(t, Config{Brokers: at})
	p := &progress{next: make(map[string]int), moved: make(chan struct{}, 1)}

	var reading sync.WaitGroup
	join := func() message.Subscriber {
		sub, in := subscribe(context.WithoutCancel(t.Context()), t, bus, "churn", topic)
		reading.Go(func() {
			for msg := range in {
				p.handle(msg)
				msg.Ack()
			}
		})
		return sub
	}
	publishTo := func(from, to int) {
		var publishing errgroup.Group
		for k := range keys {
			publishing.Go(func() error {
				for i := from; i < to; i++ {
					msg := message.NewMessage("", fmt.Append(nil, i))
					msg.Metadata.Set(pubsub.KeyHeader, fmt.Sprint("key-", k))
					if err := bus.Publisher().Publish(topic, msg); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, publishing.Wait())
	}
	members := []message.Subscriber{join()}
	for step := range 4 {
		from := step * each / 4
		var change errgroup.Group
		if step%2 == 0 {
			members = append(members, join())
		} else {
			leaving := members[0]
			members = members[1:]
			change.Go(leaving.Close)
		}
		publishTo(from, from+each/4)
		require.NoError(t, change.Wait())
		p.reached(t, keys, from+each/8)
	}
	p.reached(t, keys, each)
	for _, member := range members {
		require.NoError(t, member.Close())
	}
	reading.Wait()
	require.Empty(t, p.skipped)
}
