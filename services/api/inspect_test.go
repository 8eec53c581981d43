package api

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
	apiv1 "millrace/proto/millrace/api/v1"
)

// trimmedBus has lost the records up to a position.
type trimmedBus struct {
	pubsub.Bus
	through int64
}

type trimmedLog struct {
	pubsub.Log
	through int64
}

func (b *trimmedBus) Log(topic string) pubsub.Log { return trimmedLog{b.Bus.Log(topic), b.through} }

func (l trimmedLog) Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	if slices.ContainsFunc(ranges, func(r events.Range) bool { return r.After < l.through }) {
		return pubsub.ErrTrimmed
	}
	return l.Log.Read(ctx, ranges, visit)
}

func TestAConversationIsInspected(t *testing.T) {
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	bus := &trimmedBus{Bus: memory.NewBus(memory.Config{Partitions: 1})}
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	for i, conversation := range []string{"u:1:2", "u:1:3", "u:1:2", "u:1:2"} {
		msg := message.NewMessage("", []byte(`{}`))
		msg.Metadata.Set(pubsub.KeyHeader, conversation)
		if i != 2 {
			msg.Metadata.Set(events.CorrelationHeader, "request-"+string(rune('1'+i)))
			msg.Metadata.Set("traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
		}
		require.NoError(t, bus.Publisher().Publish(events.TopicMessages, msg))
	}
	stored, fault := map[int32]int64{0: 3}, error(nil)
	o := &Operator{Bus: bus, Stored: func(context.Context) (map[int32]int64, error) { return stored, fault }}
	inspect := func(seqs ...int64) *apiv1.InspectConversationResponse {
		t.Helper()
		got, err := o.InspectConversation(t.Context(), &apiv1.InspectConversationRequest{Conversation: "u:1:2", Seqs: seqs})
		require.NoError(t, err)
		require.EqualValues(t, []int64{0, 4, 3, 1}, []int64{int64(got.GetPartition()), got.GetEnd(), got.GetStored(), got.GetLag()})
		return got
	}
	of := func(got *apiv1.InspectConversationResponse) (origins [][3]any) {
		for _, at := range got.GetOrigins() {
			origins = append(origins, [3]any{at.GetSeq(), at.GetCorrelationId(), at.GetTraceId()})
		}
		return origins
	}
	first, third, fourth := [3]any{int64(1), "request-1", traceID}, [3]any{int64(3), "", ""}, [3]any{int64(4), "request-4", traceID}
	require.Empty(t, inspect().GetOrigins())
	require.Equal(t, [][3]any{first, third, fourth}, of(inspect(4, 3, 2, 1, 1, 0, 5, -1, events.MaxID)), "the second is of another conversation")
	bus.through = 2
	require.Equal(t, [][3]any{third, fourth}, of(inspect(1, 2, 3, 4)), "retention has removed the others")
	bus.through = 4
	require.Empty(t, of(inspect(1, 2, 3, 4)))

	for name, test := range map[string]struct {
		request *apiv1.InspectConversationRequest
		fault   error
		want    codes.Code
	}{
		"no conversation":      {&apiv1.InspectConversationRequest{Conversation: "x"}, nil, codes.InvalidArgument},
		"too many messages":    {&apiv1.InspectConversationRequest{Conversation: "u:1:2", Seqs: make([]int64, maxInspected+1)}, nil, codes.InvalidArgument},
		"a store that is down": {&apiv1.InspectConversationRequest{Conversation: "u:1:2"}, errors.New("down"), codes.Unavailable},
	} {
		fault = test.fault
		_, err := o.InspectConversation(t.Context(), test.request)
		require.Equal(t, test.want, status.Code(err), name)
	}
}

func TestAHandlerThatIsUnknownOrNeverRanHasNoPartitions(t *testing.T) {
	list, fault := []*apiv1.HandlerPartition{{Partition: 3}}, error(nil)
	o := &Operator{Partitions: func(context.Context, string) ([]*apiv1.HandlerPartition, error) { return list, fault }}
	got, err := o.ListPartitions(t.Context(), &apiv1.ListPartitionsRequest{Handler: "push"})
	require.NoError(t, err)
	require.Equal(t, list, got.GetPartitions())
	list = nil
	_, err = o.ListPartitions(t.Context(), &apiv1.ListPartitionsRequest{Handler: "telepathy"})
	require.Equal(t, codes.NotFound, status.Code(err))
	fault = errors.New("no broker")
	_, err = o.ListPartitions(t.Context(), &apiv1.ListPartitionsRequest{Handler: "push"})
	require.Equal(t, codes.Unavailable, status.Code(err))
}

func TestWhoLooksAtOnePoisonedRecordReadsNoOther(t *testing.T) {
	bus := countingBus{memory.NewBus(memory.Config{Partitions: 1}), new(int)}
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	for _, content := range []string{"one", "two", "three"} {
		msg := message.NewMessage("", []byte(content))
		msg.Metadata.Set(router.PoisonHandlerHeader, "storage")
		require.NoError(t, bus.Publisher().Publish(events.PoisonTopic(events.TopicMessages), msg))
	}
	mark := message.NewMessage("", nil)
	mark.Metadata.Set("poison_replayed", "0:0")
	require.NoError(t, bus.Publisher().Publish(events.PoisonTopic(events.TopicMessages), mark))
	o := &Operator{Bus: bus}
	got, err := o.GetPoisoned(t.Context(), &apiv1.GetPoisonedRequest{Id: "0:1"})
	require.NoError(t, err)
	require.Equal(t, "two", got.GetValue())
	require.Equal(t, "storage", got.GetRecord().GetHandler())
	require.Equal(t, 1, *bus.read)
	for _, id := range []string{"0:3", "0:4", "1:0", "0:-1", "0", "", "x:y", "0:9223372036854775807"} {
		_, err := o.GetPoisoned(t.Context(), &apiv1.GetPoisonedRequest{Id: id})
		require.Equal(t, codes.NotFound, status.Code(err), id)
	}
}
