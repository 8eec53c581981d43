package message

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// maxBlocked is how many users a user may block.
const maxBlocked = 1000

func (s *Service) block(ctx context.Context, r *millracev1.BlockRequest) error {
	by := r.GetSender().GetUser()
	if err := checkUser(by); err != nil {
		return err
	}
	users, err := s.store.Blocked(ctx, by, maxBlocked)
	switch {
	case err != nil:
		return err
	case len(users) == maxBlocked && !slices.Contains(users, r.GetUser()):
		return refuse(codes.InvalidArgument, "user %d blocks %d users, the most", by, maxBlocked)
	}
	return s.changeBlock(ctx, events.UserBlocked, r.GetSender(), r.GetUser())
}

func (s *Service) unblock(ctx context.Context, r *millracev1.UnblockRequest) error {
	return s.changeBlock(ctx, events.UserUnblocked, r.GetSender(), r.GetUser())
}

// changeBlock publishes the change and returns once it is stored and all nodes keep to it. It publishes also what seems to be
// so already, because an older change of the pair may not be stored yet.
func (s *Service) changeBlock(ctx context.Context, t events.Type, by *millracev1.Sender, user int64) error {
	r := events.Record{Event: events.Event{
		Type: t, EventID: rand.Text(), User: user, By: by.GetUser(), Timestamp: time.Now().Unix(),
	}}
	msg, err := newRecord(&r.Event, by, correlation(ctx))
	if err != nil {
		return err
	}
	if err := s.bus.Publisher().Publish(events.TopicUsers, msg); err != nil {
		return fmt.Errorf("publish %s: %w", t, err)
	}
	if r.Position, err = s.bus.Position(msg); err != nil {
		return fmt.Errorf("position of a published %s: %w", t, err)
	}
	if err := s.blockStored(ctx, &r); err != nil {
		return err
	}
	s.blocks.see(&r)
	return s.outliveLease(ctx)
}

// blockStored returns once the store has the change or a later one of the pair, or with an error after [storedWait].
func (s *Service) blockStored(ctx context.Context, r *events.Record) error {
	ctx, cancel := context.WithTimeout(ctx, storedWait)
	defer cancel()
	pair := store.Pair{By: r.By, User: r.User}
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, storedPause) {
		found, err := s.store.Blocks(ctx, []store.Pair{pair})
		if err == nil && found[pair].Seq >= r.Seq {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s at %s: %w", r.Type, r.Position, errors.Join(errNotStored, err))
		}
		sleep(ctx, pause)
	}
}

func (s *Service) blocked(ctx context.Context, r *millracev1.BlockedRequest) (*millracev1.BlockedResponse, error) {
	if err := checkUser(r.GetUser()); err != nil {
		return nil, err
	}
	users, err := s.store.Blocked(ctx, r.GetUser(), maxBlocked)
	return &millracev1.BlockedResponse{Users: users}, err
}

// blockedBy reads from the store, which has a change before its verb returns. While the store is down, it returns those who
// are known to block the user.
func (s *Service) blockedBy(ctx context.Context, r *millracev1.BlockedByRequest) (*millracev1.BlockedByResponse, error) {
	if n := len(r.GetBy()); n > maxSeen {
		return nil, refuse(codes.OutOfRange, "%d users, more than %d", n, maxSeen)
	}
	pairs := make([]store.Pair, len(r.GetBy()))
	for i, by := range r.GetBy() {
		pairs[i] = store.Pair{By: by, User: r.GetUser()}
	}
	found, err := s.blocks.of(ctx, pairs)
	if err != nil {
		s.log.DebugContext(ctx, "telling of the blocks that are known", "user", r.GetUser(), "error", err)
	}
	response := &millracev1.BlockedByResponse{}
	for pair, block := range found {
		response.States = append(response.States, &millracev1.BlockedState{By: pair.By, Blocked: block.Blocked, Seq: block.Seq})
	}
	return response, nil
}

// accepts returns an error if user blocks from, and a transient one if nobody knows. Anybody may write to itself.
func (s *Service) accepts(ctx context.Context, user, from int64) error {
	if user == from {
		return nil
	}
	pair := store.Pair{By: user, User: from}
	blocked, err := s.blocks.among(ctx, pair)
	if blocked[pair] {
		return refuse(codes.PermissionDenied, "user %d accepts no direct messages of user %d", user, from)
	}
	return err
}
