package message

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// operatorEdge is a log that keeps what is published, and a store that has it at once unless it lags.
type operatorEdge struct {
	mu      sync.Mutex
	records []*message.Message
	topics  []string
	revoked map[int64]int64
	lags    bool
	down    error // of the store
	away    error // of the log
}

func (e *operatorEdge) Publish(topic string, all ...*message.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return e.away
	}
	for _, msg := range all {
		event, err := events.Decode(topic, events.Position{Seq: 1}, msg.Payload)
		if err != nil {
			return err
		}
		e.records, e.topics = append(e.records, msg), append(e.topics, topic)
		if event.Type == events.TokensRevoked && !e.lags {
			e.revoked[event.User] = max(e.revoked[event.User], event.Before)
		}
	}
	return nil
}

func (e *operatorEdge) Close() error { return nil }

func (e *operatorEdge) RevokedBefore(_ context.Context, user int64) (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.revoked[user], e.down
}

// published returns the only event that was published, and its record.
func (e *operatorEdge) published(t *testing.T, topic string) (events.Event, *message.Message) {
	t.Helper()
	require.Equal(t, []string{topic}, e.topics)
	event, err := events.Decode(topic, events.Position{Seq: 1}, e.records[0].Payload)
	require.NoError(t, err)
	return event, e.records[0]
}

func newOperator() (*Operator, *operatorEdge) {
	e := &operatorEdge{revoked: map[int64]int64{}}
	return NewOperator(e, e, nil), e
}

func TestNoticeIsPublishedUnderItsID(t *testing.T) {
	o, edge := newOperator()
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(events.CorrelationHeader, "c1"))
	response, err := o.SendNotice(ctx, &millracev1.SendNoticeRequest{
		NoticeId: "n", Content: "hello", Extra: []byte(`{"a":1}`), Users: []int64{1, 2},
	})
	require.NoError(t, err)
	require.Equal(t, "n", response.GetNoticeId())
	e, record := edge.published(t, events.TopicSystem)
	require.Equal(t, events.SystemNotice, e.Type)
	require.Equal(t, "n", e.NoticeID)
	require.Equal(t, events.EventID(events.SystemNotice, "n"), e.EventID)
	require.Equal(t, "hello", e.Content)
	require.JSONEq(t, `{"a":1}`, string(e.Extra))
	require.Equal(t, &events.Audience{Users: []int64{1, 2}}, e.To)
	require.Equal(t, "n", record.Metadata.Get(pubsub.KeyHeader))
	require.Equal(t, "c1", record.Metadata.Get(events.CorrelationHeader))
}

func TestNoticeToEverybodyNamesNobodyAndGetsAnID(t *testing.T) {
	o, edge := newOperator()
	response, err := o.SendNotice(t.Context(), &millracev1.SendNoticeRequest{Content: "hello"})
	require.NoError(t, err)
	require.NotEmpty(t, response.GetNoticeId())
	e, _ := edge.published(t, events.TopicSystem)
	require.Equal(t, response.GetNoticeId(), e.NoticeID)
	require.Nil(t, e.To)
}

func TestNoticeThatBreaksARuleIsRefused(t *testing.T) {
	for name, r := range map[string]*millracev1.SendNoticeRequest{
		"no content":      {},
		"long content":    {Content: strings.Repeat("x", events.MaxContentBytes+1)},
		"extra":           {Content: "x", Extra: []byte(`[]`)},
		"long id":         {Content: "x", NoticeId: strings.Repeat("n", 65)},
		"user 0":          {Content: "x", Users: []int64{0}},
		"users in region": {Content: "x", Users: []int64{1}, Region: "eu"},
	} {
		t.Run(name, func(t *testing.T) {
			o, edge := newOperator()
			_, err := o.SendNotice(t.Context(), r)
			requireCode(t, codes.InvalidArgument, err)
			require.Empty(t, edge.records)
		})
	}
}

func TestOperatorIsToldThatTheLogIsAway(t *testing.T) {
	o, edge := newOperator()
	edge.away = errors.New("no broker")
	_, err := o.SendNotice(t.Context(), &millracev1.SendNoticeRequest{Content: "x"})
	requireCode(t, codes.Unavailable, err)
	_, err = o.RevokeTokens(t.Context(), &millracev1.RevokeTokensRequest{User: 1})
	requireCode(t, codes.Unavailable, err)
	require.True(t, o.slots.TryAcquire(maxOperations), "nothing is under way any more")
	edge.away = nil
	_, err = o.SendNotice(t.Context(), &millracev1.SendNoticeRequest{Content: "x"})
	requireCode(t, codes.Unavailable, err)
}

func TestTokensThatWereIssuedBeforeThisSecondAreRevokedUnlessTheCallSaysOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for asked, want := range map[int64]int64{0: now, 5: 5, now + 60: now + 60} {
			o, edge := newOperator()
			response, err := o.RevokeTokens(t.Context(), &millracev1.RevokeTokensRequest{User: 7, Before: asked})
			require.NoError(t, err)
			require.Equal(t, want, response.GetBefore())
			e, record := edge.published(t, events.TopicUsers)
			require.Equal(t, events.TokensRevoked, e.Type)
			require.EqualValues(t, 7, e.User)
			require.Equal(t, want, e.Before)
			require.Equal(t, "7", record.Metadata.Get(pubsub.KeyHeader))
		}
		for _, bad := range []*millracev1.RevokeTokensRequest{
			{}, {User: -1}, {User: 7, Before: -1}, {User: 7, Before: now + 61}, {User: 7, Before: 1000 * now},
		} {
			o, edge := newOperator()
			_, err := o.RevokeTokens(t.Context(), bad)
			requireCode(t, codes.InvalidArgument, err)
			require.Empty(t, edge.records)
		}
	})
}

func TestRevocationHoldsOnceTheStoreHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, edge := newOperator()
		edge.lags, edge.down = true, errors.New("the store is down")
		begin := time.Now()
		_, err := o.RevokeTokens(t.Context(), &millracev1.RevokeTokensRequest{User: 7, Before: 5})
		requireCode(t, codes.Unavailable, err)
		require.ErrorContains(t, err, "not stored yet")
		require.ErrorContains(t, err, "the store is down")
		require.Equal(t, storedWait, time.Since(begin))

		edge.down = nil
		go func() {
			time.Sleep(time.Second) // of the bubble
			edge.mu.Lock()
			defer edge.mu.Unlock()
			edge.revoked[7] = 5
		}()
		_, err = o.RevokeTokens(t.Context(), &millracev1.RevokeTokensRequest{User: 7, Before: 5})
		require.NoError(t, err)
		require.Len(t, edge.records, 2)
		require.Equal(t, edge.records[0].UUID, edge.records[1].UUID, "a repeat is the same event")
	})
}

func TestSyncAndMembershipsTellWhichTokensAreRevoked(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 4})
	require.NoError(t, n.db.SaveRevocations(t.Context(), []events.Record{{Event: events.Event{User: 1, Before: 7}}}))
	for user, want := range map[int64]int64{1: 7, 2: 0} {
		r, err := n.Memberships(t.Context(), &millracev1.MembershipsRequest{User: user})
		require.NoError(t, err)
		require.Equal(t, want, r.GetTokensRevokedBefore())
		require.Equal(t, want, n.sync(t, &millracev1.SyncRequest{User: user}).revokedBefore)
	}
	n.store.down.Store(true)
	require.EqualValues(t, 7, n.sync(t, &millracev1.SyncRequest{User: 1}).revokedBefore, "the node remembers")
	require.Zero(t, n.sync(t, &millracev1.SyncRequest{User: 3}).revokedBefore)
}
