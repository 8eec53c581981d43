package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/time/rate"

	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

const (
	// drainTime is how long Close waits for the messages that are being handled, so that they need not come again.
	drainTime = 3 * time.Second
	// reconnectPause is the pause between attempts to reach brokers that are away.
	reconnectPause = 500 * time.Millisecond
)

// Subscriber is a member of a consumer group. It joins the group once for every Subscribe.
type Subscriber struct {
	bus    *Bus
	group  string
	config pubsub.SubscriberConfig
	log    *slog.Logger

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// Subscriber returns a new member of the group. The member joins when Subscribe is called.
func (b *Bus) Subscriber(group string, config pubsub.SubscriberConfig) (message.Subscriber, error) {
	if group == "" {
		return nil, errors.New("a subscriber needs a consumer group")
	}
	return &Subscriber{
		bus: b, group: group, config: config, closing: make(chan struct{}),
		log: b.log.With(slog.String("group", group)),
	}, nil
}

// Subscribe delivers the topic's messages until the context is done or the subscriber is closed. While brokers are away it
// waits for them. At the end it waits at most three seconds for the messages being handled; those that are not acknowledged
// by then come again.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, pubsub.ErrClosed
	}
	assignments := newAssignments(s.bus, s.group, s.config, s.log)
	s.bus.continuity.watch(topic)
	inner, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               s.bus.config.Brokers,
		Unmarshaler:           unmarshaler{},
		OverwriteSaramaConfig: consumerConfig(s.bus.config, s.config.Gather),
		ConsumerGroup:         s.group,
		NackResendSleep:       100 * time.Millisecond,
		ReconnectRetrySleep:   reconnectPause,
		Tracer:                assignments,
	}, calm{telemetry.Watermill{Log: s.log}, &rate.Sometimes{Interval: faultInterval}})
	if err != nil {
		return nil, fmt.Errorf("subscriber of group %s: %w", s.group, err)
	}
	out := make(chan *message.Message)
	s.running.Go(func() {
		defer close(out)
		// Watermill drops what is in flight as soon as its context is done, so it gets a context that ends later.
		innerCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		in := s.join(ctx, innerCtx, inner, topic)
		s.running.Go(func() { assignments.watch(innerCtx) })
		s.running.Go(func() {
			select {
			case <-ctx.Done():
			case <-s.closing:
			}
			assignments.drain(drainTime)
			cancel()
			if err := inner.Close(); err != nil {
				s.log.ErrorContext(ctx, "close subscriber", slog.Any("error", err))
			}
			assignments.running.Wait()
		})
		for msg := range in {
			assignments.forward(ctx, innerCtx, topic, msg, out)
		}
	})
	return out, nil
}

// join subscribes, trying again while brokers are away. It returns nil if the context ends before.
func (s *Subscriber) join(ctx, innerCtx context.Context, inner *kafka.Subscriber, topic string) <-chan *message.Message {
	for {
		in, err := inner.Subscribe(innerCtx, topic)
		if err == nil {
			return in
		}
		s.log.WarnContext(ctx, "cannot subscribe yet", slog.String("topic", topic), slog.Any("error", err))
		select {
		case <-time.After(reconnectPause):
			continue
		case <-ctx.Done():
		case <-s.closing:
		}
		none := make(chan *message.Message)
		close(none)
		return none
	}
}

// Close leaves the group and returns when every subscription has ended.
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
