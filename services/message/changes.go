package message

import (
	"cmp"
	"context"
	"crypto/rand"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// markRead returns once the mark is in the log. It publishes where the mark moves to, which is at most the last message, and
// only if the mark advances. So everybody is told of the mark that holds, and two requests with the same result are one
// event.
func (s *Service) markRead(ctx context.Context, r *millracev1.MarkReadRequest) error {
	if r.GetSeq() < 1 || r.GetSeq() > events.MaxID {
		return refuse(codes.InvalidArgument, "seq %d", r.GetSeq())
	}
	if err := s.partOf(ctx, r.GetUser(), r.GetConversation()); err != nil {
		return err
	}
	now, err := s.readNow(ctx, r.GetUser(), r.GetConversation())
	if err != nil {
		return err
	}
	seq := min(r.GetSeq(), now.last)
	if seq <= now.mark {
		return nil
	}
	_, err = s.publishEvent(ctx, &events.Event{
		Type: events.MessageRead,
		EventID: events.EventID(events.MessageRead, strconv.FormatInt(r.GetUser(), 10), r.GetConversation(),
			strconv.FormatInt(seq, 10)),
		Conversation: r.GetConversation(), User: r.GetUser(), MessageSeq: seq, Timestamp: time.Now().Unix(),
	}, nil)
	return err
}

// editMessage publishes the edit if the message may be edited now. It then makes sure that this was still so at the position
// which the log gave to the edit. If an edit and a recall come to two nodes at the same time, the order in the log decides:
// an edit after the recall has no effect, and its author gets an error.
func (s *Service) editMessage(ctx context.Context, r *millracev1.EditMessageRequest) error {
	if err := checkContent(r.GetContent(), r.GetExtra()); err != nil {
		return err
	}
	if err := checkClientMsgID(r.GetClientMsgId()); err != nil {
		return err
	}
	if err := s.mayWrite(ctx, r.GetUser(), r.GetConversation()); err != nil {
		return err
	}
	key := r.GetClientMsgId()
	if key == "" {
		key = rand.Text()
	}
	id := events.EventID(events.MessageEdited, strconv.FormatInt(r.GetUser(), 10), r.GetConversation(), r.GetMessageId(), key)
	m, err := s.messageNow(ctx, r.GetConversation(), r.GetMessageId(), id)
	switch {
	case err != nil:
		return err
	case m.From != r.GetUser():
		return errNotOwn(r.GetMessageId(), r.GetUser())
	case m.repeated:
		return nil
	case m.Recalled:
		return errRecalled(m.MessageID)
	}
	extra := events.Extra(r.GetExtra())
	if len(extra) == 0 {
		extra = m.Extra
	}
	edited, decided, err := s.reviewEdit(ctx, r, &m, extra)
	if err != nil {
		return err
	}
	pos, err := s.publishDecided(ctx, &events.Event{
		Type: events.MessageEdited, EventID: id,
		// MessageSeq is the position of the message.
		Conversation: m.Conversation, MessageID: m.MessageID, MessageSeq: m.Seq, By: r.GetUser(),
		Content: edited.Content, Extra: edited.Extra, Timestamp: time.Now().Unix(),
	}, r.GetSender(), decided)
	if err != nil {
		return err
	}
	recalled, err := s.recalledBetween(ctx, &m, m.through, pos.Seq)
	if err == nil && recalled {
		err = errRecalled(m.MessageID)
	}
	return err
}

// recallMessage derives the event's id from the message alone, so that a message is recalled once, however often its author
// asks for it. A user who has left a group may still recall its own messages there.
func (s *Service) recallMessage(ctx context.Context, r *millracev1.RecallMessageRequest) error {
	outside := s.partOf(ctx, r.GetUser(), r.GetConversation())
	if outside != nil && codeOf(outside) != codes.PermissionDenied && codeOf(outside) != codes.NotFound {
		return outside
	}
	m, err := s.messageNow(ctx, r.GetConversation(), r.GetMessageId(), "")
	switch {
	case outside != nil && (err != nil || m.From != r.GetUser()):
		return outside
	case err != nil:
		return err
	case m.From != r.GetUser():
		return s.recallForeign(ctx, r, &m)
	case m.Recalled:
		return nil
	}
	_, err = s.publishEvent(ctx, &events.Event{
		Type:         events.MessageRecalled,
		EventID:      events.EventID(events.MessageRecalled, m.Conversation, m.MessageID),
		Conversation: m.Conversation, MessageID: m.MessageID, MessageSeq: m.Seq, By: r.GetUser(),
		Timestamp: time.Now().Unix(),
	}, nil)
	return err
}

// recallForeign recalls a message of somebody else, which the owner and the admins of a group may. It makes sure that the user
// still was that at the position of the recall. A recall after which the user is made an admin again is another event.
func (s *Service) recallForeign(ctx context.Context, r *millracev1.RecallMessageRequest, m *messageNow) error {
	c, err := events.ParseConversation(m.Conversation)
	if err != nil || c.GroupID == 0 {
		return cmp.Or(err, errNotOwn(m.MessageID, r.GetUser()))
	}
	g, _, err := s.governed(ctx, r.GetUser(), c.GroupID)
	if err != nil || m.Recalled {
		return err
	}
	_, err = s.publishEvent(ctx, &events.Event{
		Type: events.MessageRecalled,
		EventID: events.EventID(events.MessageRecalled, m.Conversation, m.MessageID,
			strconv.FormatInt(r.GetUser(), 10), strconv.FormatInt(g.Grants.Latest(), 10)),
		Conversation: m.Conversation, MessageID: m.MessageID, MessageSeq: m.Seq, By: r.GetUser(), Timestamp: time.Now().Unix(),
	}, nil)
	if err != nil {
		return err
	}
	now, err := s.messageNow(ctx, m.Conversation, m.MessageID, "")
	if err == nil && !now.Recalled {
		err = errOvertaken
	}
	return err
}

// mayWrite returns an error if the user may not write to the conversation now.
func (s *Service) mayWrite(ctx context.Context, user int64, conversation string) error {
	c, err := events.ParseConversation(conversation)
	if err == nil && c.GroupID != 0 {
		return s.members.mayWrite(ctx, user, c.GroupID)
	}
	if err := s.partOf(ctx, user, conversation); err != nil {
		return err
	}
	other := c.Low
	if other == user {
		other = c.High
	}
	return s.accepts(ctx, other, user)
}

// partOf returns an error if the user has no part in the conversation now.
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

func errNotOwn(message string, user int64) error {
	return refuse(codes.PermissionDenied, "message %s is not of user %d", message, user)
}

func errRecalled(message string) error {
	return refuse(codes.NotFound, "message %s was recalled", message)
}

// checkClientMsgID returns an error for an id that no client_msg_id can be. An empty id means none.
func checkClientMsgID(id string) error {
	if len(id) > events.MaxClientMsgBytes || !utf8.ValidString(id) {
		return refuse(codes.InvalidArgument, "client_msg_id is not 1 to %d bytes of text", events.MaxClientMsgBytes)
	}
	return nil
}
