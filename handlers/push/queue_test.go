package push

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

func TestWhatWaitsGoesIntoOneFrameUpToItsBounds(t *testing.T) {
	q := newQueue(Options{FrameBytes: 3 * spanBytes}.withDefaults())
	for i := range 7 {
		q.span(span{partition: int32(i), through: int64(i)}, 0)
	}
	q.span(span{through: 7}, 100*spanBytes) // larger than a frame
	q.span(span{through: 8}, 0)
	var got [][]int64
	for f := q.take(); f != nil; f = q.take() {
		var through []int64
		for _, s := range f.response.GetSpans() {
			through = append(through, s.GetThrough())
		}
		got = append(got, through)
	}
	require.Equal(t, [][]int64{{0, 1, 2}, {3, 4, 5}, {6}, {7}, {8}}, got)
	require.Zero(t, q.items)
	require.Zero(t, q.bytes)
}

func TestSpanThatGoesOnWhereAnotherEndsMakesThatLonger(t *testing.T) {
	q := newQueue(Options{}.withDefaults())
	add := func(partition int32, after, through int64, interest uint64) {
		q.span(span{partition, after, through, interest, &millracev1.Delivery{Seq: through}}, 0)
	}
	add(1, 0, 1, 7)
	add(2, 0, 5, 7)
	add(1, 1, 3, 7)
	add(2, 6, 7, 7) // leaves a gap
	add(1, 3, 4, 8) // answers another interest
	add(1, 4, 6, 8)
	var got [][]int64
	for _, s := range q.take().response.GetSpans() {
		is := []int64{int64(s.GetPartition()), s.GetAfter(), s.GetThrough(), int64(s.GetInterest())}
		for _, d := range s.GetDeliveries() {
			is = append(is, d.GetSeq())
		}
		got = append(got, is)
	}
	require.Equal(t, [][]int64{{1, 0, 3, 7, 1, 3}, {2, 0, 5, 7, 5}, {2, 6, 7, 7, 7}, {1, 3, 6, 8, 4, 6}}, got)
}

func TestAcknowledgementEndsItsFrame(t *testing.T) {
	q := newQueue(Options{}.withDefaults())
	q.span(span{interest: 0}, 0)
	q.ack(&millracev1.InterestAck{Number: 1})
	q.span(span{interest: 1}, 0)
	first, second := q.take(), q.take()
	require.Equal(t, uint64(1), first.response.GetAck().GetNumber())
	require.Len(t, first.response.GetSpans(), 1)
	require.Equal(t, uint64(1), second.response.GetSpans()[0].GetInterest())
}

func TestFullQueueEnds(t *testing.T) {
	for name, test := range map[string]struct {
		opts Options
		put  func(*queue)
	}{
		"too many":  {Options{QueueItems: 3}, func(q *queue) { q.span(span{}, 0) }},
		"too large": {Options{QueueBytes: 3000}, func(q *queue) { q.span(span{}, 900) }},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(test.opts.withDefaults())
			for range 3 {
				test.put(q)
				require.NoError(t, q.cause())
			}
			test.put(q)
			<-q.ended
			require.Equal(t, codes.ResourceExhausted, status.Code(q.cause()))
			require.Nil(t, q.next())
			test.put(q)
			q.end(nil)
			require.Equal(t, codes.ResourceExhausted, status.Code(q.cause()), "the first cause counts")
		})
	}
}

func TestSignalIsLeftOutWhenTheQueueIsMoreThanHalfFull(t *testing.T) {
	q := newQueue(Options{QueueItems: 4}.withDefaults())
	for range 3 {
		q.signal(&millracev1.Signal{Channel: "u:1"})
	}
	q.span(span{}, 0)
	q.signal(&millracev1.Signal{Channel: "u:1"})
	f := q.take()
	require.Len(t, f.response.GetSignals(), 2)
	require.Len(t, f.response.GetSpans(), 1)
	require.NoError(t, q.cause())
}
