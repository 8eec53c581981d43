package message

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func (n *node) eraser() *Operator {
	return NewOperator(n.bus.Publisher(), n.db, NewEraser(n.service, n.db))
}

func (n *node) texts(t *testing.T, user int64, conversation string) []string {
	t.Helper()
	page, err := n.History(t.Context(), &millracev1.HistoryRequest{User: user, Conversation: conversation, Limit: 100})
	require.NoError(t, err)
	return texts(page.GetMessages())
}

func TestOfAnErasedUserAllIsEmptyThatTheLogHadAndNothingThatCameLater(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 4})
	n.publish(t, said(1, 2, "one"), said(2, 1, "two"), said(3, 1, "three"), said(1, 3, "four"))
	n.keepAll(t)
	erased, err := n.eraser().EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1})
	require.NoError(t, err)
	require.EqualValues(t, 2, erased.GetMessages())
	require.Empty(t, erased.GetNext())
	n.storing(t) // from the beginning of the log
	n.publish(t, said(1, 2, "five"))
	require.Equal(t, []string{"", "two", "five"}, n.texts(t, 2, "u:1:2"))
	require.Equal(t, []string{"three", ""}, n.texts(t, 3, "u:1:3"))
}

func TestAnErasureHoldsForWhatStorageHasYetToSaveAndIsCompleteOnceThatIsDone(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 4})
	n.publish(t, said(1, 2, "one"))
	n.keepAll(t)
	n.publish(t, said(1, 2, "two"))
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := newSteps(n.db, func(string) { cancel() })
	_, err := NewOperator(n.bus.Publisher(), n.db, NewEraser(n.service, cancelled)).EraseUser(ctx, &millracev1.EraseUserRequest{User: 1})
	requireCode(t, codes.Unavailable, err)
	n.keepAll(t)
	require.Equal(t, []string{"one", ""}, n.texts(t, 2, "u:1:2"))
	erased, err := n.eraser().EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1})
	require.NoError(t, err)
	require.EqualValues(t, 1, erased.GetMessages())
	require.Equal(t, []string{"", ""}, n.texts(t, 2, "u:1:2"))
}

// steps is a store of which the test is told before each step of an erasure, and that fails in all once it is down.
type steps struct {
	Erasing
	before func(conversation string)
	down   error
}

func newSteps(db Erasing, before func(string)) *steps { return &steps{Erasing: db, before: before} }

func (s *steps) SaveErasure(ctx context.Context, user int64, through map[int32]int64) error {
	if s.down != nil {
		return s.down
	}
	err := s.Erasing.SaveErasure(ctx, user, through)
	s.before("")
	return err
}

func (s *steps) EraseIn(ctx context.Context, user int64, conversation string, after int64) (int, int64, error) {
	s.before(conversation)
	if s.down != nil {
		return 0, 0, s.down
	}
	return s.Erasing.EraseIn(ctx, user, conversation, after)
}

func TestAnErasureThatTakesLongGoesOnWhereTheCallBeforeHasStopped(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 4})
	n.publish(t, change(events.GroupCreated, 5, 1, 1, 1, 2), saidIn(5, 1, "zero"), said(1, 2, "one"), said(1, 3, "two"))
	n.keepAll(t)
	var done []string
	store := newSteps(n.db, func(conversation string) { done = append(done, conversation) })
	e := NewEraser(n.service, store)
	e.time = 0
	o := NewOperator(n.bus.Publisher(), n.db, e)
	next, emptied := "", int64(0)
	for range 2 {
		erased, err := o.EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1, Next: next})
		require.NoError(t, err)
		require.NotEmpty(t, erased.GetNext())
		next, emptied = erased.GetNext(), emptied+erased.GetMessages()
	}
	store.down = errors.New("the store is down")
	_, err := o.EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1, Next: next})
	requireCode(t, codes.Unavailable, err)
	store.down = nil
	erased, err := o.EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1, Next: next})
	require.NoError(t, err)
	require.Empty(t, erased.GetNext())
	require.EqualValues(t, 3, emptied+erased.GetMessages())
	require.Equal(t, []string{"", "g:5", "u:1:2", "u:1:3", "u:1:3"}, done)
}

func TestAnErasureThatCannotBeginIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 4})
	o := n.eraser()
	for _, bad := range []*millracev1.EraseUserRequest{
		{}, {User: -1}, {User: events.MaxID + 1}, {User: 1, Next: "?"}, {User: 1, Next: formatNext(1, "u:2:1")},
	} {
		_, err := o.EraseUser(t.Context(), bad)
		requireCode(t, codes.InvalidArgument, err)
	}
	erased, err := o.EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 9})
	require.NoError(t, err, "nothing is known of this user")
	require.Zero(t, erased.GetMessages())
	require.True(t, o.eraser.running.TryAcquire(maxErasures), "nothing is under way any more")
	_, err = o.EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1})
	requireCode(t, codes.Unavailable, err)
	store := newSteps(n.db, func(string) {})
	store.down = errors.New("the store is down")
	_, err = NewOperator(n.bus.Publisher(), n.db, NewEraser(n.service, store)).EraseUser(t.Context(), &millracev1.EraseUserRequest{User: 1})
	requireCode(t, codes.Unavailable, err)
}
