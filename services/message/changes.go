package message

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// markRead answers once the mark is in the log; the store keeps the highest.
func (s *Service) markRead(ctx context.Context, r *millracev1.MarkReadRequest) error {
	if err := s.partOf(ctx, r.GetUser(), r.GetConversation()); err != nil {
		return err
	}
	user, seq := strconv.FormatInt(r.GetUser(), 10), strconv.FormatInt(r.GetSeq(), 10)
	_, err := s.publishEvent(ctx, &events.Event{
		Type: events.MessageRead, EventID: events.EventID(events.MessageRead, user, r.GetConversation(), seq),
		Conversation: r.GetConversation(), User: r.GetUser(), MessageSeq: r.GetSeq(), Timestamp: time.Now().Unix(),
	}, nil)
	return err
}

func (s *Service) editMessage(ctx context.Context, r *millracev1.EditMessageRequest) error {
	if err := checkContent(r.GetContent()); err != nil {
		return err
	}
	m, err := s.ownMessage(ctx, r.GetUser(), r.GetConversation(), r.GetMessageId())
	switch {
	case err != nil:
		return err
	case m.Recalled:
		return refuse(codes.NotFound, "message %s was recalled", r.GetMessageId())
	}
	now := time.Now().Unix()
	_, err = s.publishEvent(ctx, &events.Event{
		Type:    events.MessageEdited,
		EventID: events.EventID(events.MessageEdited, m.MessageID, r.GetContent(), strconv.FormatInt(now, 10)),
		// MessageSeq tells readers where the message stands.
		Conversation: m.Conversation, MessageID: m.MessageID, MessageSeq: m.Seq, By: r.GetUser(),
		Content: r.GetContent(), Timestamp: now,
	}, nil)
	return err
}

func (s *Service) recallMessage(ctx context.Context, r *millracev1.RecallMessageRequest) error {
	m, err := s.ownMessage(ctx, r.GetUser(), r.GetConversation(), r.GetMessageId())
	if err != nil || m.Recalled {
		return err
	}
	_, err = s.publishEvent(ctx, &events.Event{
		Type: events.MessageRecalled, EventID: events.EventID(events.MessageRecalled, m.MessageID),
		Conversation: m.Conversation, MessageID: m.MessageID, MessageSeq: m.Seq, By: r.GetUser(),
		Timestamp: time.Now().Unix(),
	}, nil)
	return err
}

// partOf refuses whoever may not write to the conversation now.
func (s *Service) partOf(ctx context.Context, user int64, conversation string) error {
	c, err := events.ParseConversation(conversation)
	switch {
	case err != nil:
		return err
	case c.GroupID != 0:
		return s.members.check(ctx, user, c.GroupID)
	case !c.Has(user):
		return refuse(codes.PermissionDenied, "user %d has no part in %s", user, conversation)
	}
	return nil
}

// ownMessage finds a message that the user itself has sent. One that is not stored yet is waited for: it does not exist
// if it is not there once all that was in the log is stored.
func (s *Service) ownMessage(
	ctx context.Context, user int64, conversation, id string,
) (store.StoredMessage, error) {
	if err := s.partOf(ctx, user, conversation); err != nil {
		return store.StoredMessage{}, err
	}
	m, err := s.store.Message(ctx, conversation, id)
	if errors.Is(err, store.ErrNotFound) {
		if err := s.storedNow(ctx, conversation); err != nil {
			return m, err
		}
		m, err = s.store.Message(ctx, conversation, id)
	}
	if err == nil && m.From != user {
		err = refuse(codes.PermissionDenied, "message %s is not of user %d", id, user)
	}
	return m, err
}
