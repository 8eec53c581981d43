package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func (n *node) readLog(t testing.TB, r *millracev1.ReadLogRequest) ([]*millracev1.Span, error) {
	t.Helper()
	stream, err := n.ReadLog(t.Context(), r)
	require.NoError(t, err)
	var spans []*millracev1.Span
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return spans, nil
		}
		if err != nil {
			return nil, err
		}
		spans = append(spans, response.GetSpan())
	}
}

func TestReadLogCoversEveryRecordAndDeliversWhatCanBeRead(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, said(1, 2, "a"), change(events.GroupCreated, 7, 1, 0, 1, 2))
	n.publishRaw(t, "u:1:2", "no JSON")
	n.publish(t, events.Event{Type: events.MessageRead, Conversation: "u:1:2", User: 1, MessageSeq: 1, Timestamp: 5})
	n.publish(t, saidIn(7, 1, "b"))
	n.publishRaw(t, "u:1:2", "no JSON")

	for name, c := range map[string]struct {
		after, through, reached int64
		want                    []int64
	}{
		"all":          {0, 0, 6, []int64{1, 2, 4, 5}},
		"a part":       {1, 4, 4, []int64{2, 4}},
		"unreadable":   {2, 3, 3, nil},
		"nothing":      {4, 4, 4, nil},
		"at the end":   {6, 0, 6, nil},
		"past the end": {9, 0, 9, nil},
	} {
		t.Run(name, func(t *testing.T) {
			spans, err := n.readLog(t, &millracev1.ReadLogRequest{After: c.after, Through: c.through})
			require.NoError(t, err)
			require.Len(t, spans, 1)
			require.Equal(t, c.after, spans[0].GetAfter())
			require.Equal(t, c.reached, spans[0].GetThrough())
			var got []int64
			for _, d := range spans[0].GetDeliveries() {
				got = append(got, d.GetSeq())
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestReadLogGivesDeliveriesAsTheyArePushed(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2))
	spans, err := n.readLog(t, &millracev1.ReadLogRequest{})
	require.NoError(t, err)
	d := spans[0].GetDeliveries()[0]
	require.Equal(t, []string{"g:7", "u:1", "u:2"}, d.GetChannels())
	require.Equal(t, []int64{1, 2}, d.GetChange().GetJoined())
	var frame struct{ Push events.Push }
	require.NoError(t, json.Unmarshal(d.GetPush(), &frame))
	require.Equal(t, "0:1", frame.Push.Pos)
}

func TestReadLogCutsLongSpansIntoMeetingOnes(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	const records = 30
	large(t, n, records)
	spans, err := n.readLog(t, &millracev1.ReadLogRequest{})
	require.NoError(t, err)
	require.Greater(t, len(spans), 1)
	var reached int64
	next := int64(1)
	for _, span := range spans {
		require.Equal(t, reached, span.GetAfter())
		reached = span.GetThrough()
		for _, d := range span.GetDeliveries() {
			require.Equal(t, next, d.GetSeq())
			next++
		}
	}
	require.Equal(t, int64(records), reached)
	require.Equal(t, int64(records+1), next)
}

// large publishes messages with content of the greatest length.
func large(t testing.TB, n *node, messages int) {
	t.Helper()
	for i := range messages {
		e := said(1, 2, fmt.Sprint(i))
		e.Message.Content = strings.Repeat("x", events.MaxContentBytes)
		n.publish(t, e)
	}
}

func TestReadLogReadsOnAsItsCallerTakesWhatWasRead(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	const records, inFrame = 100, maxFrameBytes / events.MaxContentBytes
	large(t, n, records)
	var reached int64
	frames := int64(0)
	require.NoError(t, n.service.readGap(t.Context(), &millracev1.ReadLogRequest{}, func(span *millracev1.Span) error {
		frames++
		require.LessOrEqual(t, len(span.GetDeliveries()), inFrame+1)
		require.LessOrEqual(t, n.bus.visited.Load(), span.GetThrough(), "nothing is read ahead")
		require.Equal(t, reached, span.GetAfter())
		reached = span.GetThrough()
		return nil
	}))
	require.Equal(t, int64(records), reached)
	require.Greater(t, frames, int64(records/(inFrame+1)))
}

func TestReadLogIsRefusedWhenTooManySlowCallersAreServed(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	large(t, n, 1)
	n.service.reads = semaphore.NewWeighted(1)
	taken, goOn := make(chan struct{}), make(chan struct{})
	var slow sync.WaitGroup
	slow.Go(func() {
		if err := n.service.readGap(t.Context(), &millracev1.ReadLogRequest{}, func(*millracev1.Span) error {
			close(taken)
			<-goOn
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-taken
	requireCode(t, codes.Unavailable, second(n.readLog(t, &millracev1.ReadLogRequest{})))
	close(goOn)
	slow.Wait()
	requireCode(t, codes.OK, second(n.readLog(t, &millracev1.ReadLogRequest{})))
}

func TestReadLogIsRefused(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	n := newNodeOver(t, bus)
	p := events.Partition("u:1:2", 4)
	flood(t, n, 0, maxGap+1)
	for name, c := range map[string]struct {
		r    *millracev1.ReadLogRequest
		want codes.Code
	}{
		"too long":             {&millracev1.ReadLogRequest{Partition: p}, codes.OutOfRange},
		"just short enough":    {&millracev1.ReadLogRequest{Partition: p, After: 1}, codes.OK},
		"no such partition":    {&millracev1.ReadLogRequest{Partition: 4}, codes.InvalidArgument},
		"a negative partition": {&millracev1.ReadLogRequest{Partition: -1}, codes.InvalidArgument},
		"a negative position":  {&millracev1.ReadLogRequest{Partition: p, After: -1}, codes.InvalidArgument},
		"not there yet":        {&millracev1.ReadLogRequest{Partition: p, After: maxGap, Through: maxGap + 2}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, c.want, second(n.readLog(t, c.r))) })
	}
	bus.Trim(events.TopicMessages, events.Position{Partition: p, Seq: 2})
	requireCode(t, codes.OutOfRange, second(n.readLog(t, &millracev1.ReadLogRequest{Partition: p, After: 1, Through: 5})))
	requireCode(t, codes.OK, second(n.readLog(t, &millracev1.ReadLogRequest{Partition: p, After: 2, Through: 5})))
	bus.Trim(events.TopicMessages, events.Position{Partition: p, Seq: maxGap + 1})
	requireCode(t, codes.OutOfRange, second(n.readLog(t, &millracev1.ReadLogRequest{Partition: p, After: 2, Through: 5})))

	n.bus.endFails.Store(true)
	requireCode(t, codes.Unavailable, second(n.readLog(t, &millracev1.ReadLogRequest{Partition: p, After: 2, Through: 5})))
}

func TestReadLogDeliversNoRepeats(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	n := newNodeOver(t, bus)
	n.publish(t, said(1, 2, "a"), said(1, 2, "b"), said(1, 2, "a"), said(1, 2, "c"), said(1, 2, "c"))
	read := func() (got []int64) {
		spans, err := n.readLog(t, &millracev1.ReadLogRequest{After: 2})
		require.NoError(t, err)
		require.Equal(t, int64(5), spans[0].GetThrough())
		for _, d := range spans[0].GetDeliveries() {
			got = append(got, d.GetSeq())
		}
		return got
	}
	require.Equal(t, []int64{4}, read())
	bus.Trim(events.TopicMessages, events.Position{Seq: 2})
	require.Equal(t, []int64{3, 4}, read(), "the first is gone")
}

func TestEndsTellsWhereTheLogEnds(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, said(1, 2, "a"), said(1, 2, "b"))
	r, err := n.Ends(t.Context(), &millracev1.EndsRequest{})
	require.NoError(t, err)
	require.Equal(t, n.end(t), r.GetEnd())
	n.bus.endFails.Store(true)
	requireCode(t, codes.Unavailable, second(n.Ends(t.Context(), &millracev1.EndsRequest{})))
}
