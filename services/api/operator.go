package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/rules"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// Operator implements the calls of the contract.
type Operator struct {
	apiv1.UnimplementedOperatorServiceServer

	Bus pubsub.Bus
	// Handlers lists the handlers.
	Handlers func(context.Context) ([]*apiv1.Handler, error)
	// Partitions returns how far a handler is in each partition, or nothing if there is no such handler or it never ran.
	Partitions func(ctx context.Context, handler string) ([]*apiv1.HandlerPartition, error)
	// Stored returns how far the store has the partitions of message-events.
	Stored func(context.Context) (map[int32]int64, error)
	// NoReplay returns, by handler, why nothing can be replayed for it.
	NoReplay func(context.Context, []*poison.Entry) (map[string]string, error)
	// Gateways asks a push node for the sessions of its gateways.
	Gateways Gateways
	// Nodes is the service for operators of the message nodes.
	Nodes millracev1.OperatorServiceServer
	// Rules returns how it stands with the rules of this process. It is nil if there are none.
	Rules func() rules.State
	Log   *slog.Logger

	lists lists
}

const (
	defaultChoice = 100
	maxChoice     = 1000
	maxWhy        = 256
)

// ListHandlers implements the call of the contract.
func (o *Operator) ListHandlers(ctx context.Context, _ *apiv1.ListHandlersRequest) (*apiv1.ListHandlersResponse, error) {
	list, err := o.Handlers(ctx)
	if err != nil {
		return nil, logFault(err)
	}
	return &apiv1.ListHandlersResponse{Handlers: list}, nil
}

// ListPartitions implements the call of the contract.
func (o *Operator) ListPartitions(ctx context.Context, r *apiv1.ListPartitionsRequest) (*apiv1.ListPartitionsResponse, error) {
	list, err := o.Partitions(ctx, r.GetHandler())
	switch {
	case err != nil:
		return nil, logFault(err)
	case len(list) == 0:
		return nil, status.Error(codes.NotFound, "no such handler, or it never ran")
	}
	return &apiv1.ListPartitionsResponse{Partitions: list}, nil
}

// ListPoisoned implements the call of the contract.
func (o *Operator) ListPoisoned(ctx context.Context, r *apiv1.ListPoisonedRequest) (*apiv1.ListPoisonedResponse, error) {
	c, err := o.choose(ctx, r, o.lists.entries)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(c.selected, func(a, b *poison.Entry) int { return b.Time.Compare(a.Time) })
	response := &apiv1.ListPoisonedResponse{Selected: int32(len(c.selected))}
	for _, e := range c.some() {
		response.Records = append(response.Records, poisoned(e))
	}
	return response, nil
}

// GetPoisoned implements the call of the contract.
func (o *Operator) GetPoisoned(ctx context.Context, r *apiv1.GetPoisonedRequest) (*apiv1.GetPoisonedResponse, error) {
	queue, err := o.queue(r.GetTopic())
	if err != nil {
		return nil, err
	}
	e, err := queue.Entry(ctx, r.GetId())
	switch {
	case errors.Is(err, poison.ErrNoEntry):
		return nil, status.Error(codes.NotFound, "not in the poison queue")
	case err != nil:
		return nil, logFault(err)
	}
	response := &apiv1.GetPoisonedResponse{Record: poisoned(e), Headers: map[string]string{}}
	for name, value := range e.Metadata {
		response.Headers[valid(name)] = valid(value)
	}
	value, err := queue.Value(ctx, e)
	if err != nil {
		value, response.Cut = e.Payload, true
	}
	response.Value = valid(string(value))
	return response, nil
}

// ReplayPoisoned implements the call of the contract.
func (o *Operator) ReplayPoisoned(ctx context.Context, r *apiv1.ReplayPoisonedRequest) (*apiv1.ReplayPoisonedResponse, error) {
	c, err := o.chooseToChange(ctx, r)
	if err != nil {
		return nil, err
	}
	some := c.some()
	response := &apiv1.ReplayPoisonedResponse{Remaining: c.remaining(), Refused: map[string]int32{}}
	if r.GetDryRun() || len(some) == 0 {
		response.Replayed = int32(len(some))
		return response, nil
	}
	filter := only(some)
	if filter.NoReplay, err = o.NoReplay(ctx, some); err != nil {
		return nil, logFault(err)
	}
	done, err := c.queue.Replay(ctx, c.entries, filter, 0)
	if err != nil {
		return nil, logFault(err)
	}
	response.Replayed, response.Changes = int32(done.ToHandlers+done.Home), int32(done.Changes)
	for handler, ids := range done.Refused {
		response.Refused[fmt.Sprintf("%s takes no replays: %s", handler, filter.NoReplay[handler])] = int32(len(ids))
	}
	if n := len(done.Gone); n > 0 {
		response.Refused["the log no longer has the originals"] = int32(n)
	}
	if done.Unplaced > 0 {
		response.Refused["they are of no conversation"] = int32(done.Unplaced)
	}
	return response, nil
}

// DiscardPoisoned implements the call of the contract.
func (o *Operator) DiscardPoisoned(ctx context.Context, r *apiv1.DiscardPoisonedRequest) (*apiv1.DiscardPoisonedResponse, error) {
	if why := r.GetWhy(); why == "" || len(why) > maxWhy {
		return nil, status.Errorf(codes.InvalidArgument, "why is not of 1 to %d bytes", maxWhy)
	}
	c, err := o.chooseToChange(ctx, r)
	if err != nil {
		return nil, err
	}
	some := c.some()
	response := &apiv1.DiscardPoisonedResponse{Remaining: c.remaining()}
	if r.GetDryRun() || len(some) == 0 {
		response.Discarded = int32(len(some))
		return response, nil
	}
	n, err := c.queue.Discard(ctx, c.entries, only(some))
	response.Discarded = int32(n)
	o.Log.InfoContext(ctx, "records of the poison queue were discarded", "discarded", n, "why", r.GetWhy())
	if err != nil {
		return nil, logFault(err)
	}
	return response, nil
}

// choosing is a request that says which records of a poison queue it is about.
type choosing interface {
	GetTopic() string
	GetFilter() *apiv1.PoisonFilter
	GetLimit() int32
}

// choice is what a request selects in a poison queue.
type choice struct {
	queue             *poison.Queue
	filter            poison.Filter
	entries, selected []*poison.Entry
	limit             int
}

// some returns as many of the selected records as the request wants at most.
func (c *choice) some() []*poison.Entry { return c.selected[:min(c.limit, len(c.selected))] }

// remaining returns how many more are selected.
func (c *choice) remaining() int32 { return int32(len(c.selected) - len(c.some())) }

// choose selects among the entries that read returns.
func (o *Operator) choose(
	ctx context.Context, r choosing, read func(context.Context, *poison.Queue) ([]*poison.Entry, error),
) (*choice, error) {
	if r.GetLimit() < 0 || r.GetLimit() > maxChoice {
		return nil, status.Errorf(codes.InvalidArgument, "limit is not between 0 and %d", maxChoice)
	}
	queue, err := o.queue(r.GetTopic())
	if err != nil {
		return nil, err
	}
	f := r.GetFilter()
	c := &choice{queue: queue, limit: cmp.Or(int(r.GetLimit()), defaultChoice), filter: poison.Filter{
		IDs: f.GetIds(), Handler: f.GetHandler(), Reason: f.GetReason(), Since: unix(f.GetSince()), Until: unix(f.GetUntil()),
	}}
	if c.entries, err = read(ctx, queue); err != nil {
		return nil, logFault(err)
	}
	c.selected = c.filter.Select(c.entries)
	return c, nil
}

// chooseToChange is choose for a request that changes what it selects: it must not select the whole queue by omission.
func (o *Operator) chooseToChange(ctx context.Context, r choosing) (*choice, error) {
	c, err := o.choose(ctx, r, func(ctx context.Context, q *poison.Queue) ([]*poison.Entry, error) { return q.Entries(ctx) })
	if err != nil {
		return nil, err
	}
	f := c.filter
	if len(f.IDs) == 0 && f.Handler == "" && f.Reason == "" && f.Since.IsZero() && f.Until.IsZero() {
		return nil, status.Error(codes.InvalidArgument, "say which records: by ids, handler, reason, since or until")
	}
	return c, nil
}

// only returns a filter that selects these entries.
func only(some []*poison.Entry) poison.Filter {
	var ids []string
	for _, e := range some {
		ids = append(ids, e.ID)
	}
	return poison.Filter{IDs: ids}
}

func (o *Operator) queue(topic string) (*poison.Queue, error) {
	if topic == "" {
		topic = events.TopicMessages
	}
	if !slices.Contains(events.Topics(), events.PoisonTopic(topic)) && !events.IsRoute(topic) {
		return nil, status.Error(codes.NotFound, "no topic of this name has a poison queue")
	}
	return poison.New(o.Bus, topic), nil
}

func poisoned(e *poison.Entry) *apiv1.Poisoned {
	p := &apiv1.Poisoned{
		Id: e.ID, Topic: e.Topic, Position: valid(e.Position), Key: valid(e.Key), Handler: valid(e.Handler), Reason: valid(e.Reason),
	}
	if !e.Time.IsZero() {
		p.Time = e.Time.Unix()
	}
	return p
}

// valid replaces what is no UTF-8, which a foreign producer may have written and which no message of protobuf may have.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// logFault is the error for a log that cannot be read or written now.
func logFault(err error) error { return status.Error(codes.Unavailable, err.Error()) }
