package api

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
	apiv1 "millrace/proto/millrace/api/v1"
)

// maxInspected is how many messages a call asks about at most.
const maxInspected = 200

// InspectConversation implements the call of the contract.
func (o *Operator) InspectConversation(
	ctx context.Context, r *apiv1.InspectConversationRequest,
) (*apiv1.InspectConversationResponse, error) {
	if _, err := events.ParseConversation(r.GetConversation()); err != nil {
		return nil, status.Error(codes.InvalidArgument, "conversation: want u:LOW:HIGH or g:GROUP")
	}
	if len(r.GetSeqs()) > maxInspected {
		return nil, status.Errorf(codes.InvalidArgument, "%d seqs, more than %d", len(r.GetSeqs()), maxInspected)
	}
	stored, err := o.Stored(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "the store cannot be read")
	}
	log := o.Bus.Log(events.TopicMessages)
	end, err := log.End(ctx)
	if err != nil {
		return nil, logFault(err)
	}
	p := events.Partition(r.GetConversation(), log.Partitions())
	response := &apiv1.InspectConversationResponse{
		Partition: p, End: end[p], Stored: stored[p],
		Lag: events.Range{Partition: p, After: log.Current(map[int32]int64{p: stored[p]})[p], Through: end[p]}.Len(),
	}
	var ranges []events.Range
	for _, seq := range slices.Compact(slices.Sorted(slices.Values(r.GetSeqs()))) {
		if seq > events.EpochStart(end[p]) && seq <= end[p] {
			ranges = append(ranges, events.Range{Partition: p, After: seq - 1, Through: seq})
		}
	}
	response.Origins, err = originsOf(ctx, log, r.GetConversation(), ranges)
	if err != nil {
		return nil, logFault(err)
	}
	return response, nil
}

// originsOf reads the records in the ranges, each of which is one record, ascending. Retention removes the oldest: if the log does not
// have all, it reads one by one, the latest first, as far as it has them.
func originsOf(ctx context.Context, log pubsub.Log, conversation string, ranges []events.Range) (origins []*apiv1.MessageOrigin, err error) {
	read := func(ranges ...events.Range) error {
		return log.Read(ctx, ranges, func(r pubsub.RawRecord) error {
			if string(r.Key) == conversation {
				origins = append(origins, originOf(r))
			}
			return nil
		})
	}
	if err = read(ranges...); !errors.Is(err, pubsub.ErrTrimmed) {
		return origins, err
	}
	origins = nil
	for _, one := range slices.Backward(ranges) {
		if err = read(one); err != nil {
			break
		}
	}
	if errors.Is(err, pubsub.ErrTrimmed) {
		err = nil
	}
	slices.Reverse(origins)
	return origins, err
}

func originOf(r pubsub.RawRecord) *apiv1.MessageOrigin {
	origin := &apiv1.MessageOrigin{Seq: r.Seq, CorrelationId: valid(r.Headers.Get(events.CorrelationHeader))}
	ctx := telemetry.WithRemote(context.Background(), telemetry.HeadersContext(r.Headers.Get))
	if of := trace.SpanContextFromContext(ctx); of.HasTraceID() {
		origin.TraceId = of.TraceID().String()
	}
	return origin
}
