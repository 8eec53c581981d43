package message

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxOperations bounds the calls of operators that wait for the broker. Further ones are refused at once.
	maxOperations = 256
	// maxAhead is how much later than now tokens may be revoked, by this node's clock. A time that lies far ahead, in
	// milliseconds for example, would lock the user out for good.
	maxAhead = time.Minute
	// lookForStored is how often the store is asked whether it has what it waits for.
	lookForStored = 20 * time.Millisecond
)

// Revocations is the part of a store that knows whose tokens are revoked.
type Revocations interface {
	// RevokedBefore returns the time in Unix seconds before which the user's tokens are revoked, or 0.
	RevokedBefore(ctx context.Context, user int64) (int64, error)
}

// Operator implements millracev1.OperatorServiceServer. It checks and publishes; handlers do the rest. Errors are gRPC statuses.
type Operator struct {
	millracev1.UnimplementedOperatorServiceServer

	publisher message.Publisher
	store     Revocations
	eraser    *Eraser
	slots     *semaphore.Weighted
}

var _ millracev1.OperatorServiceServer = (*Operator)(nil)

// NewOperator returns a service that publishes by the publisher, looks up in the store whether it has what was published, and
// erases users by the eraser.
func NewOperator(publisher message.Publisher, store Revocations, eraser *Eraser) *Operator {
	return &Operator{publisher: publisher, store: store, eraser: eraser, slots: semaphore.NewWeighted(maxOperations)}
}

// SendNotice implements the call of the contract.
func (o *Operator) SendNotice(ctx context.Context, r *millracev1.SendNoticeRequest) (*millracev1.SendNoticeResponse, error) {
	id := r.GetNoticeId()
	if id == "" {
		id = rand.Text()
	}
	e := events.Event{
		Type: events.SystemNotice, NoticeID: id, EventID: events.EventID(events.SystemNotice, id),
		Content: r.GetContent(), Extra: r.GetExtra(), Timestamp: time.Now().Unix(),
	}
	if len(r.GetUsers()) > 0 || r.GetUserType() != "" || r.GetRegion() != "" {
		e.To = &events.Audience{Users: r.GetUsers(), UserType: r.GetUserType(), Region: r.GetRegion()}
	}
	return answer(&millracev1.SendNoticeResponse{NoticeId: id}, o.publish(ctx, events.TopicSystem, &e))
}

// RevokeTokens implements the call of the contract.
func (o *Operator) RevokeTokens(
	ctx context.Context, r *millracev1.RevokeTokensRequest,
) (*millracev1.RevokeTokensResponse, error) {
	now := time.Now()
	before := r.GetBefore()
	if before == 0 {
		before = now.Unix()
	}
	if latest := now.Add(maxAhead); before > latest.Unix() {
		return nil, statusOf(refuse(codes.InvalidArgument, "before %d lies ahead: want Unix seconds, at most %d now", before, latest.Unix()))
	}
	return answer(&millracev1.RevokeTokensResponse{Before: before}, o.revoke(ctx, r.GetUser(), before, now))
}

func (o *Operator) revoke(ctx context.Context, user, before int64, now time.Time) error {
	err := o.publish(ctx, events.TopicUsers, &events.Event{
		Type: events.TokensRevoked, User: user, Before: before, Timestamp: now.Unix(),
		EventID: events.EventID(events.TokensRevoked, strconv.FormatInt(user, 10), strconv.FormatInt(before, 10)),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storedWait)
	defer cancel()
	for {
		stored, err := o.store.RevokedBefore(ctx, user)
		if err == nil && stored >= before {
			return nil
		}
		select {
		case <-time.After(lookForStored):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("tokens of user %d: %w", user, errNotStored), err)
		}
	}
}

// publish publishes the event on the topic, and returns within the bus's deadline.
func (o *Operator) publish(ctx context.Context, topic string, e *events.Event) error {
	msg, err := pubsub.NewRecord(e)
	if err != nil {
		return err
	}
	if id := correlation(ctx); id != "" {
		msg.Metadata.Set(events.CorrelationHeader, id)
	}
	if !o.slots.TryAcquire(1) {
		return errBusy
	}
	defer o.slots.Release(1)
	return o.publisher.Publish(topic, msg)
}
