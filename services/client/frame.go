package client

import (
	"encoding/json"
	"fmt"

	"millrace/events"
)

// Frame is a frame from the server. A push has Push set; an answer has the ID of its request and one of the other fields.
type Frame struct {
	ID            int64             `json:"id"`
	Push          *Push             `json:"push"`
	Error         *Error            `json:"error"`
	Connected     *Connected        `json:"connected"`
	Sent          *Sent             `json:"sent"`
	Messages      *Page             `json:"messages"`
	Conversations *ConversationPage `json:"conversations"`
	Readers       *readersFrame     `json:"readers"`
	Group         *Group            `json:"group"`
	Presence      *Present          `json:"presence"`
	Blocked       *blockedFrame     `json:"blocked"`
	OK            json.RawMessage   `json:"ok"`
	Pong          json.RawMessage   `json:"pong"`

	// Raw is the text of the frame.
	Raw []byte `json:"-"`
	// Violation says how the frame breaks the rules of positions; it is usually empty. The connection that read the frame
	// sets it.
	Violation string `json:"-"`
}

// Push is a push from the server. Which fields are set depends on its type.
type Push struct {
	events.Push
	From   int64  `json:"from"`   // typing
	To     int64  `json:"to"`     // typing
	Cursor Cursor `json:"cursor"` // complete
}

// The types of pushes that are not records of a conversation.
const (
	TypeComplete    events.Type = "complete"
	TypeTyping      events.Type = "typing"
	TypeUserOnline  events.Type = "user_online"
	TypeUserOffline events.Type = "user_offline"
)

// Present is the answer to presence.
type Present struct {
	Online []int64 `json:"online"` // ascending
	// LastSeen says of those who are not online when they last came or went, in Unix seconds, as far as that is known.
	LastSeen map[int64]int64 `json:"last_seen"`
}

type blockedFrame struct {
	Users []int64 `json:"users"`
}

type readersFrame struct {
	Readers []Reader `json:"readers"`
}

// Reader is a user who has read a conversation up to Seq.
type Reader struct {
	User int64 `json:"user"`
	Seq  int64 `json:"seq"`
}

// Connected is the answer to connect.
type Connected struct {
	User        int64  `json:"user"`
	Session     string `json:"session"`
	Cursor      Cursor `json:"cursor"`
	Recovered   bool   `json:"recovered"` // false: messages were missed that only history has
	Complete    bool   `json:"complete"`  // false: some missed pushes follow later, then a push of TypeComplete
	PingSeconds int    `json:"ping_seconds"`
}

// Sent is the answer to send: the message was accepted for good.
type Sent struct {
	MessageID    string `json:"message_id"`
	Conversation string `json:"conversation"`
	Timestamp    int64  `json:"timestamp"` // Unix seconds
	Replaced     bool   `json:"replaced"`  // the server has accepted another content, which the push has
}

// Message is a message in a page of history. A recalled message has only Seq and MessageID.
type Message struct {
	Seq int64 `json:"seq"`
	events.PushMessage
	EditedAt int64 `json:"edited_at"` // Unix seconds; 0: never edited
}

// Page is the answer to history: messages in ascending seq, and whether there are more in the direction asked for.
type Page struct {
	Conversation string    `json:"conversation"`
	Messages     []Message `json:"messages"`
	More         bool      `json:"more"`
}

// Conversation is the head of a conversation.
type Conversation struct {
	Conversation string  `json:"conversation"`
	Last         Message `json:"last"`
	Unread       int     `json:"unread"` // counted up to 999
	ReadSeq      int64   `json:"read_seq"`
	// What the user has set. MutedUntil is in Unix seconds.
	MutedUntil int64 `json:"muted_until"`
	Pinned     bool  `json:"pinned"`
	Hidden     bool  `json:"hidden"` // until the next message
}

// ConversationPage is a part of a user's list of conversations, the latest first.
type ConversationPage struct {
	Conversations []Conversation `json:"conversations"`
	// More says that there are further conversations, which a request with Next returns.
	More bool   `json:"more"`
	Next string `json:"next"`
}

// Group is a group as its members see it.
type Group struct {
	GroupID int64   `json:"group_id"`
	Name    string  `json:"name"`
	Owner   int64   `json:"owner"`
	Members []int64 `json:"members"`
	Join    string  `json:"join"`   // [events.JoinOpen]: anybody may join; empty: the owner and the admins add members
	Admins  []int64 `json:"admins"` // without the owner, ascending
	// Who is muted until when, and until when all but the owner and the admins are; in Unix seconds.
	Muted      map[int64]int64 `json:"muted"`
	MutedUntil int64           `json:"muted_until"`
}

// Error is an error answer of the server. Compare codes with errors.Is: errors.Is(err, &Error{Code: Unavailable}).
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// The codes of errors. Unavailable means: try again with the same client_msg_id, which is safe. Rejected means that a rule or
// a hook of the server does not want the message, now or later.
const (
	Unauthenticated  = "unauthenticated"
	InvalidArgument  = "invalid_argument"
	PermissionDenied = "permission_denied"
	NotFound         = "not_found"
	TooLarge         = "too_large"
	RateLimited      = "rate_limited"
	Rejected         = "rejected"
	Unavailable      = "unavailable"
	Internal         = "internal"
)

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Is reports whether the target is an *Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Decode reads a frame from the server. It ignores unknown members, so the frame may be empty.
func Decode(text []byte) (Frame, error) {
	var f Frame
	if err := json.Unmarshal(text, &f); err != nil {
		return Frame{Raw: text}, fmt.Errorf("decode frame: %w", err)
	}
	f.Raw = text
	return f, nil
}
