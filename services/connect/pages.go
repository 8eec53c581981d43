package connect

import (
	"context"
	"encoding/json"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// maxPageBytes bounds a page as JSON, so that an outbox has room for it beside pushes that take half of the outbox.
const maxPageBytes = 512 << 10

type storedMessage struct {
	Seq         int64        `json:"seq"`
	MessageID   string       `json:"message_id"`
	ClientMsgID string       `json:"client_msg_id,omitempty"`
	From        int64        `json:"from"`
	To          int64        `json:"to,omitempty"`
	GroupID     int64        `json:"group_id,omitempty"`
	Content     string       `json:"content"`
	MessageType int32        `json:"message_type"`
	Timestamp   int64        `json:"timestamp"`
	Extra       events.Extra `json:"extra,omitempty"`
	ReplyTo     string       `json:"reply_to,omitempty"`
	Mentions    []int64      `json:"mentions,omitempty"`
	EditedAt    int64        `json:"edited_at,omitempty"`
}

type recalledMessage struct {
	Seq       int64  `json:"seq"`
	MessageID string `json:"message_id"`
	Recalled  bool   `json:"recalled"`
}

type conversationHead struct {
	Conversation string `json:"conversation"`
	Last         any    `json:"last,omitempty"`
	Unread       int32  `json:"unread"`
	ReadSeq      int64  `json:"read_seq"`
	MutedUntil   int64  `json:"muted_until,omitempty"`
	Pinned       bool   `json:"pinned,omitempty"`
	Hidden       bool   `json:"hidden,omitempty"`
}

type reader struct {
	User int64 `json:"user"`
	Seq  int64 `json:"seq"`
}

type group struct {
	GroupID int64   `json:"group_id"`
	Name    string  `json:"name"`
	Owner   int64   `json:"owner"`
	Members []int64 `json:"members"`
	Join    string  `json:"join,omitempty"`
	Admins  []int64 `json:"admins,omitempty"`
	// Who is muted until when, and until when all but the owner and the admins are.
	Muted      map[int64]int64 `json:"muted,omitempty"`
	MutedUntil int64           `json:"muted_until,omitempty"`
}

func (s *session) history(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b historyBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	page, err := c.History(ctx, &millracev1.HistoryRequest{
		User: s.identity.User, Conversation: b.Conversation, BeforeSeq: b.BeforeSeq, AfterSeq: b.AfterSeq, Limit: b.Limit,
	})
	if err != nil {
		return "", nil, err
	}
	messages := make([]any, len(page.GetMessages()))
	for i, m := range page.GetMessages() {
		messages[i] = messageOf(m)
	}
	kept, cut, err := fit(messages, b.AfterSeq == nil)
	return "messages", struct {
		Conversation string            `json:"conversation"`
		Messages     []json.RawMessage `json:"messages"`
		More         bool              `json:"more"`
	}{b.Conversation, kept, page.GetMore() || cut}, err
}

func (s *session) readers(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b readersBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	answer, err := c.Readers(ctx, &millracev1.ReadersRequest{User: s.identity.User, Conversation: b.Conversation, Seq: b.Seq})
	if err != nil {
		return "", nil, err
	}
	readers := make([]reader, len(answer.GetReaders()))
	for i, r := range answer.GetReaders() {
		readers[i] = reader{r.GetUser(), r.GetSeq()}
	}
	return "readers", struct {
		Readers []reader `json:"readers"`
	}{readers}, nil
}

func (s *session) conversations(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b conversationsBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	list, err := c.Conversations(ctx, &millracev1.ConversationsRequest{User: s.identity.User, Limit: b.Limit, Next: b.Next})
	if err != nil {
		return "", nil, err
	}
	heads := make([]any, len(list.GetConversations()))
	for i, h := range list.GetConversations() {
		head := conversationHead{
			Conversation: h.GetConversation(), Unread: h.GetUnread(), ReadSeq: h.GetReadSeq(),
			MutedUntil: h.GetMutedUntil(), Pinned: h.GetPinned(), Hidden: h.GetHidden(),
		}
		if h.GetLast() != nil {
			head.Last = messageOf(h.GetLast())
		}
		heads[i] = head
	}
	kept, cut, err := fit(heads, false)
	more, next := list.GetMore() || cut, ""
	if more && len(kept) > 0 {
		next = list.GetConversations()[len(kept)-1].GetNext()
	}
	return "conversations", struct {
		Conversations []json.RawMessage `json:"conversations"`
		More          bool              `json:"more"`
		Next          string            `json:"next,omitempty"`
	}{kept, more, next}, err
}

// fit encodes as many of the items as have room, beginning with the last if fromEnd is set, and reports whether it has left
// any out.
func fit(items []any, fromEnd bool) (kept []json.RawMessage, cut bool, err error) {
	encoded := make([]json.RawMessage, len(items))
	first, last, size := 0, len(items), 0
	for n := range items {
		i := n
		if fromEnd {
			i = len(items) - 1 - n
		}
		if encoded[i], err = json.Marshal(items[i]); err != nil {
			return nil, false, err
		}
		if size += len(encoded[i]) + 1; size <= maxPageBytes {
			continue
		}
		if cut = true; fromEnd {
			first = i + 1
		} else {
			last = i
		}
		break
	}
	return encoded[first:last], cut, nil
}

func messageOf(m *millracev1.StoredMessage) any {
	if m.GetRecalled() {
		return recalledMessage{Seq: m.GetSeq(), MessageID: m.GetMessageId(), Recalled: true}
	}
	return storedMessage{
		Seq: m.GetSeq(), MessageID: m.GetMessageId(), ClientMsgID: m.GetClientMsgId(), From: m.GetFrom(), To: m.GetTo(),
		GroupID: m.GetGroupId(), Content: m.GetContent(), MessageType: m.GetMessageType(), Timestamp: m.GetTimestamp(),
		Extra: m.GetExtra(), ReplyTo: m.GetReplyTo(), Mentions: m.GetMentions(), EditedAt: m.GetEditedAt(),
	}
}

func groupOf(g *millracev1.Group) group {
	members := g.GetMembers()
	if members == nil {
		members = []int64{}
	}
	join := ""
	if g.GetOpen() {
		join = events.JoinOpen
	}
	return group{
		GroupID: g.GetGroupId(), Name: g.GetName(), Owner: g.GetOwner(), Members: members, Join: join,
		Admins: g.GetAdmins(), Muted: g.GetMuted(), MutedUntil: g.GetMutedUntil(),
	}
}
