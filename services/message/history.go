package message

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	defaultPage = 50
	maxPage     = 200
)

func (s *Service) history(ctx context.Context, r *millracev1.HistoryRequest) (*millracev1.HistoryResponse, error) {
	page, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	behind := s.soonStored(ctx, r.GetConversation())
	visible, err := s.visible(ctx, r.GetUser(), r.GetConversation())
	switch {
	case behind != nil && errors.Is(err, errNoGroup):
		return nil, behind // what storage is behind with may be that the user has joined
	case err != nil:
		return nil, err
	}
	messages, more, err := s.pages(ctx, r.GetUser(), r.GetConversation(), page, visible)
	if err != nil {
		return nil, err
	}
	response := &millracev1.HistoryResponse{More: more}
	for i := range messages {
		response.Messages = append(response.Messages, wireMessage(&messages[i]))
	}
	return response, nil
}

func (s *Service) conversations(
	ctx context.Context, r *millracev1.ConversationsRequest,
) (*millracev1.ConversationsResponse, error) {
	if err := checkUser(r.GetUser()); err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.GetLimit())
	if err != nil {
		return nil, err
	}
	var behind store.Place
	behind.ActiveAt, behind.Conversation, err = parseNext(r.GetNext())
	if err != nil {
		return nil, err
	}
	_ = s.soonStored(ctx, "")
	heads, more, err := s.store.Heads(ctx, r.GetUser(), behind, limit)
	if err != nil {
		return nil, err
	}
	response := &millracev1.ConversationsResponse{More: more}
	for _, head := range heads {
		conversation := &millracev1.ConversationHead{
			Conversation: head.Conversation, Unread: int32(min(head.Unread, 999)), ReadSeq: head.ReadSeq,
			Next: formatNext(head.ActiveAt, head.Conversation), MutedUntil: head.MutedUntil, Pinned: head.Pinned, Hidden: head.Hidden,
		}
		if head.Last != nil {
			conversation.Last = wireMessage(head.Last)
		}
		response.Conversations = append(response.Conversations, conversation)
	}
	return response, nil
}

// formatNext returns the token with which a caller goes on after the position or the time in the conversation.
func formatNext(at int64, conversation string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", at, conversation))
}

// parseNext reads the token that formatNext returned. An empty token means the beginning.
func parseNext(token string) (at int64, conversation string, err error) {
	if token == "" {
		return 0, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	number, conversation, _ := strings.Cut(string(text), " ")
	if err == nil {
		at, err = strconv.ParseInt(number, 10, 64)
	}
	if err == nil {
		_, err = events.ParseConversation(conversation)
	}
	if err != nil {
		return 0, "", refuse(codes.InvalidArgument, "next: want what the response before gave")
	}
	return at, conversation, nil
}

func pageOf(r *millracev1.HistoryRequest) (store.Page, error) {
	limit, err := pageLimit(r.GetLimit())
	page := store.Page{After: r.GetAfterSeq(), Before: r.GetBeforeSeq(), Newest: r.AfterSeq == nil, Limit: limit}
	switch {
	case err != nil:
		return page, err
	case r.AfterSeq != nil && r.BeforeSeq != nil:
		return page, refuse(codes.InvalidArgument, "both before_seq and after_seq")
	case r.GetAfterSeq() < 0:
		return page, refuse(codes.InvalidArgument, "after_seq %d", r.GetAfterSeq())
	case r.BeforeSeq != nil && r.GetBeforeSeq() < 1:
		return page, refuse(codes.InvalidArgument, "before_seq %d", r.GetBeforeSeq())
	}
	return page, nil
}

func pageLimit(limit int32) (int, error) {
	switch {
	case limit < 0:
		return 0, refuse(codes.InvalidArgument, "limit %d", limit)
	case limit == 0:
		return defaultPage, nil
	}
	return min(int(limit), maxPage), nil
}

// interval is the positions after one up to another.
type interval struct{ after, through int64 }

// visible returns the parts of a conversation that the user may read, ascending: all of a direct conversation of its own, and
// the user's stays in a group.
func (s *Service) visible(ctx context.Context, user int64, conversation string) ([]interval, error) {
	c, err := events.ParseConversation(conversation)
	if err != nil {
		return nil, err
	}
	if c.GroupID == 0 {
		if !c.Has(user) {
			return nil, refuse(codes.PermissionDenied, "user %d has no part in %s", user, conversation)
		}
		return []interval{{0, events.MaxID}}, nil
	}
	stays, err := s.store.Stays(ctx, user, c.GroupID)
	if err != nil {
		return nil, err
	}
	if len(stays) == 0 {
		return nil, errNoGroup
	}
	parts := make([]interval, 0, len(stays))
	for _, stay := range stays {
		through := stay.Left
		if through == 0 {
			through = events.MaxID
		}
		parts = append(parts, interval{stay.Joined, through})
	}
	slices.SortFunc(parts, func(a, b interval) int { return cmp.Compare(a.after, b.after) })
	return parts, nil
}

// pages reads one page across the visible parts, each as it was when the user left. When the page is full it looks for one
// more message, to know whether there are more.
func (s *Service) pages(
	ctx context.Context, user int64, conversation string, page store.Page, visible []interval,
) ([]store.StoredMessage, bool, error) {
	if page.Newest {
		slices.Reverse(visible)
	}
	before := page.Before
	if before == 0 {
		before = math.MaxInt64
	}
	var found []store.StoredMessage
	for _, part := range visible {
		within := page
		within.After, within.Before = max(page.After, part.after), min(before, part.through+1)
		if part.through != events.MaxID {
			within.AsOf, within.Reader = part.through, user
		}
		if within.After+1 >= within.Before {
			continue
		}
		within.Limit = max(page.Limit-len(found), 1)
		messages, more, err := s.store.History(ctx, conversation, within)
		if err != nil {
			return nil, false, err
		}
		if len(found) == page.Limit {
			if len(messages) > 0 {
				return found, true, nil
			}
			continue
		}
		if page.Newest {
			found = append(messages, found...)
		} else {
			found = append(found, messages...)
		}
		if more {
			return found, true, nil
		}
	}
	return found, false, nil
}

func wireMessage(m *store.StoredMessage) *millracev1.StoredMessage {
	if m.Recalled {
		return &millracev1.StoredMessage{Seq: m.Seq, MessageId: m.MessageID, Recalled: true}
	}
	return &millracev1.StoredMessage{
		Seq: m.Seq, MessageId: m.MessageID, ClientMsgId: m.ClientMsgID, From: m.From, To: m.To, GroupId: m.GroupID,
		Content: m.Content, MessageType: m.MessageType, Timestamp: m.Timestamp, EditedAt: m.EditedAt,
		Extra: m.Extra, ReplyTo: m.ReplyTo, Mentions: m.Mentions,
	}
}
