package client

import (
	"encoding/json"
	"fmt"
	"strconv"

	"millrace/events"
)

// Request is the request of a verb: one of the types below.
type Request interface{ verb() string }

// Target is the recipient: exactly one of a user and a group.
type Target struct {
	To      int64 `json:"to,omitempty"`
	GroupID int64 `json:"group_id,omitempty"`
}

// ToUser returns the target of direct messages to the user.
func ToUser(id int64) Target { return Target{To: id} }

// ToGroup returns the target of messages to the group.
func ToGroup(id int64) Target { return Target{GroupID: id} }

// The requests. Each has the name of its verb.
type (
	// Connect is the first request of a connection. A nil cursor replays nothing, an empty one is a cursor.
	Connect struct {
		Token  string `json:"token"`
		Device string `json:"device,omitempty"`
		Cursor Cursor `json:"cursor,omitzero"`
	}
	// Refresh passes a new token of the same user to the server.
	Refresh struct {
		Token string `json:"token"`
	}
	// Send sends a message. A repeat with the same ClientMsgID creates no second message. ReplyTo is the id of a message of
	// the conversation, Mentions are users.
	Send struct {
		Target
		Content     string       `json:"content"`
		MessageType int32        `json:"message_type,omitempty"`
		ClientMsgID string       `json:"client_msg_id,omitempty"`
		Extra       events.Extra `json:"extra,omitempty"`
		ReplyTo     string       `json:"reply_to,omitempty"`
		Mentions    []int64      `json:"mentions,omitempty"`
	}
	// History asks for a page: the messages before a seq (not 0), after one (0: from the start), or the newest with neither.
	History struct {
		Conversation string `json:"conversation"`
		BeforeSeq    int64  `json:"before_seq,omitempty"`
		AfterSeq     *int64 `json:"after_seq,omitempty"`
		Limit        int    `json:"limit,omitempty"`
	}
	// Conversations asks for the user's conversations, the latest first, or with the Next of a page for those after it.
	Conversations struct {
		Limit int    `json:"limit,omitempty"`
		Next  string `json:"next,omitempty"`
	}
	// Read says up to which seq the user has read.
	Read struct {
		Conversation string `json:"conversation"`
		Seq          int64  `json:"seq"`
	}
	// Settings changes what the user has set for a conversation. What is nil stays as it is.
	Settings struct {
		Conversation string `json:"conversation"`
		events.Settings
	}
	// Readers asks who has read a conversation at least up to a seq.
	Readers struct {
		Conversation string `json:"conversation"`
		Seq          int64  `json:"seq"`
	}
	// Recall recalls the user's own message or, in a group whose owner or admin the user is, any message.
	Recall struct {
		Conversation string `json:"conversation"`
		MessageID    string `json:"message_id"`
	}
	// Edit replaces the content of the user's own message, and its extra if it has one. A repeat with the same ClientMsgID does
	// not undo a later edit.
	Edit struct {
		Conversation string       `json:"conversation"`
		MessageID    string       `json:"message_id"`
		Content      string       `json:"content"`
		Extra        events.Extra `json:"extra,omitempty"`
		ClientMsgID  string       `json:"client_msg_id,omitempty"`
	}
	// Typing says that the user is writing.
	Typing struct{ Target }
	// Presence asks which of the users are online.
	Presence struct {
		Users []int64 `json:"users"`
	}
	// Block makes the server refuse the user's direct messages and typing, and hide from the user whether this one is online.
	Block struct {
		User int64 `json:"user"`
	}
	// Unblock ends that.
	Unblock Block
	// Blocked asks whom the user blocks.
	Blocked struct{}
	// GroupCreate creates a group. A repeat with the same ClientMsgID creates no second group. Join is [events.JoinOpen] for
	// a group that anybody may join, or empty.
	GroupCreate struct {
		Name        string  `json:"name"`
		Members     []int64 `json:"members"`
		Join        string  `json:"join,omitempty"`
		ClientMsgID string  `json:"client_msg_id,omitempty"`
	}
	// GroupInfo asks for a group.
	GroupInfo struct {
		GroupID int64 `json:"group_id"`
	}
	// GroupJoin joins an open group, or one that the user has left by itself. A repeat with the same ClientMsgID does not
	// undo what came in between; the same holds for the requests below.
	GroupJoin struct {
		GroupID     int64  `json:"group_id"`
		ClientMsgID string `json:"client_msg_id,omitempty"`
	}
	// GroupLeave leaves a group.
	GroupLeave GroupJoin
	// GroupAdd adds a member.
	GroupAdd struct {
		GroupID     int64  `json:"group_id"`
		User        int64  `json:"user"`
		ClientMsgID string `json:"client_msg_id,omitempty"`
	}
	// GroupRemove removes a member.
	GroupRemove GroupAdd
	// GroupRename gives a group another name.
	GroupRename struct {
		GroupID     int64  `json:"group_id"`
		Name        string `json:"name"`
		ClientMsgID string `json:"client_msg_id,omitempty"`
	}
	// GroupRole gives a member a role. With that of the owner, the user itself becomes an admin.
	GroupRole struct {
		GroupID     int64       `json:"group_id"`
		User        int64       `json:"user"`
		Role        events.Role `json:"role"`
		ClientMsgID string      `json:"client_msg_id,omitempty"`
	}
	// GroupMute mutes a member until a time in Unix seconds, or with 0 ends that. Without User it does so for all but the owner
	// and the admins.
	GroupMute struct {
		GroupID     int64  `json:"group_id"`
		User        int64  `json:"user,omitempty"`
		Until       int64  `json:"until"`
		ClientMsgID string `json:"client_msg_id,omitempty"`
	}
	// GroupDissolve ends a group for all its members.
	GroupDissolve GroupInfo
	// PushSubscribe makes a browser get the user's notifications by Web Push. It is what the browser's Push API returns.
	PushSubscribe struct {
		Endpoint string   `json:"endpoint"`
		Keys     PushKeys `json:"keys"`
	}
	// PushUnsubscribe undoes that.
	PushUnsubscribe struct {
		Endpoint string `json:"endpoint"`
	}
	// PushKeys are a browser's public key and secret in base64url.
	PushKeys struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	}
	// Ping asks for a pong.
	Ping struct{}
)

func (Connect) verb() string         { return "connect" }
func (Refresh) verb() string         { return "refresh" }
func (Send) verb() string            { return "send" }
func (History) verb() string         { return "history" }
func (Conversations) verb() string   { return "conversations" }
func (Read) verb() string            { return "read" }
func (Settings) verb() string        { return "settings" }
func (Readers) verb() string         { return "readers" }
func (Recall) verb() string          { return "recall" }
func (Edit) verb() string            { return "edit" }
func (Typing) verb() string          { return "typing" }
func (Presence) verb() string        { return "presence" }
func (GroupCreate) verb() string     { return "group_create" }
func (GroupInfo) verb() string       { return "group_info" }
func (GroupJoin) verb() string       { return "group_join" }
func (GroupLeave) verb() string      { return "group_leave" }
func (GroupAdd) verb() string        { return "group_add" }
func (GroupRemove) verb() string     { return "group_remove" }
func (GroupRename) verb() string     { return "group_rename" }
func (GroupRole) verb() string       { return "group_role" }
func (GroupMute) verb() string       { return "group_mute" }
func (GroupDissolve) verb() string   { return "group_dissolve" }
func (PushSubscribe) verb() string   { return "push_subscribe" }
func (PushUnsubscribe) verb() string { return "push_unsubscribe" }
func (Ping) verb() string            { return "ping" }
func (Block) verb() string           { return "block" }
func (Unblock) verb() string         { return "unblock" }
func (Blocked) verb() string         { return "blocked" }

// Encode returns the frame of a request, or [ErrNotUTF8] if a text in it is not valid UTF-8.
func Encode(id int64, r Request) ([]byte, error) {
	body, err := encodeBody(r)
	if err != nil {
		return nil, err
	}
	return frameOf(id, r, body), nil
}

// encodeBody returns what the frame of the request has under its verb.
func encodeBody(r Request) ([]byte, error) {
	if err := checkText(r); err != nil {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.verb(), err)
	}
	return body, nil
}

func frameOf(id int64, r Request, body []byte) []byte {
	text := make([]byte, 0, len(body)+48)
	text = append(text, `{"id":`...)
	text = strconv.AppendInt(text, id, 10)
	text = append(text, `,"`...)
	text = append(text, r.verb()...)
	text = append(text, `":`...)
	text = append(text, body...)
	return append(text, '}')
}
