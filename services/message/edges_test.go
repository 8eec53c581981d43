package message

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
)

// busEdge counts the records of the log that are read, and lets a test replace the publisher.
type busEdge struct {
	pubsub.Bus
	instead  func(topic string, msgs ...*message.Message) error
	reads    atomic.Int64
	visited  atomic.Int64 // records that Read has come to
	endFails atomic.Bool
	hold     atomic.Pointer[chan struct{}] // Read waits for it
}

func (b *busEdge) Publisher() message.Publisher { return publisherEdge{b.Bus.Publisher(), b.instead} }

func (b *busEdge) Log(topic string) pubsub.Log { return &logEdge{b.Bus.Log(topic), b} }

type publisherEdge struct {
	message.Publisher
	instead func(topic string, msgs ...*message.Message) error
}

func (p publisherEdge) Publish(topic string, msgs ...*message.Message) error {
	if p.instead != nil {
		return p.instead(topic, msgs...)
	}
	return p.Publisher.Publish(topic, msgs...)
}

type logEdge struct {
	pubsub.Log
	bus *busEdge
}

func (l *logEdge) End(ctx context.Context) (map[int32]int64, error) {
	if l.bus.endFails.Load() {
		return nil, errDown
	}
	return l.Log.End(ctx)
}

func (l *logEdge) Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	l.bus.reads.Add(1)
	if hold := l.bus.hold.Load(); hold != nil {
		<-*hold
	}
	return l.Log.Read(ctx, ranges, func(r pubsub.RawRecord) error {
		l.bus.visited.Add(1)
		return visit(r)
	})
}

var errDown = errors.New("disk on fire")

// storeEdge is a store that fails or hangs when the test wants it.
type storeEdge struct {
	Store
	down, hangs, missedFails atomic.Bool
	calls                    atomic.Int64
	behind                   atomic.Pointer[map[int32]int64] // what Stored returns instead
}

func (s *storeEdge) enter(ctx context.Context) error {
	s.calls.Add(1)
	if s.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.down.Load() {
		return errDown
	}
	return nil
}

func (s *storeEdge) History(ctx context.Context, c string, p store.Page) ([]store.StoredMessage, bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	return s.Store.History(ctx, c, p)
}

func (s *storeEdge) Message(ctx context.Context, c, id string) (store.StoredMessage, error) {
	if err := s.enter(ctx); err != nil {
		return store.StoredMessage{}, err
	}
	return s.Store.Message(ctx, c, id)
}

func (s *storeEdge) SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.SentAt(ctx, messages)
}

func (s *storeEdge) ChangeSeq(ctx context.Context, c, id string) (int64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	return s.Store.ChangeSeq(ctx, c, id)
}

func (s *storeEdge) ReadMark(ctx context.Context, user int64, c string) (int64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	return s.Store.ReadMark(ctx, user, c)
}

func (s *storeEdge) Heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	return s.Store.Heads(ctx, user, behind, limit)
}

func (s *storeEdge) Missed(
	ctx context.Context, user int64, ranges []events.Range, limit int,
) ([]events.Record, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	if s.missedFails.Load() {
		return nil, errDown
	}
	return s.Store.Missed(ctx, user, ranges, limit)
}

func (s *storeEdge) Memberships(ctx context.Context, user int64) ([]store.Membership, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.Memberships(ctx, user)
}

func (s *storeEdge) Stays(ctx context.Context, user, group int64) ([]store.Membership, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.Stays(ctx, user, group)
}

func (s *storeEdge) Group(ctx context.Context, id int64) (store.Group, error) {
	if err := s.enter(ctx); err != nil {
		return store.Group{}, err
	}
	return s.Store.Group(ctx, id)
}

func (s *storeEdge) Members(ctx context.Context, id int64) ([]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.Members(ctx, id)
}

func (s *storeEdge) ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	return s.Store.ReserveGroup(ctx, owner, clientMsgID, drawn)
}

func (s *storeEdge) Stored(ctx context.Context) (map[int32]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	if behind := s.behind.Load(); behind != nil {
		return *behind, nil
	}
	return s.Store.Stored(ctx)
}

func (s *storeEdge) Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.Blocks(ctx, pairs)
}

func (s *storeEdge) Blocked(ctx context.Context, by int64, limit int) ([]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.Blocked(ctx, by, limit)
}

func (s *storeEdge) Progress(ctx context.Context, handler string) (map[int32]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	return s.Store.Progress(ctx, handler)
}

func (s *storeEdge) RevokedBefore(ctx context.Context, user int64) (int64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	return s.Store.RevokedBefore(ctx, user)
}
