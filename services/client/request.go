package client

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Request is the body of a verb: one of the types below.
type Request interface{ verb() string }

// Target is whom something goes to: a user or a group, exactly one of them.
type Target struct {
	To      int64 `json:"to,omitempty"`
	GroupID int64 `json:"group_id,omitempty"`
}

// ToUser is the target of direct messages.
func ToUser(id int64) Target { return Target{To: id} }

// ToGroup is the target of a group's messages.
func ToGroup(id int64) Target { return Target{GroupID: id} }

// The requests, named like their verbs.
type (
	// Connect is the first request of a connection. A nil cursor replays nothing, an empty one is a cursor.
	Connect struct {
		Token  string `json:"token"`
		Device string `json:"device,omitempty"`
		Cursor Cursor `json:"cursor,omitzero"`
	}
	// Refresh hands a new token of the same user.
	Refresh struct {
		Token string `json:"token"`
	}
	// Send sends a message. A repeat with the same ClientMsgID creates no second one.
	Send struct {
		Target
		Content     string `json:"content"`
		MessageType int32  `json:"message_type,omitempty"`
		ClientMsgID string `json:"client_msg_id,omitempty"`
	}
	// History asks for a page: before a seq (not 0), after one (0: from the start), or with neither the newest.
	History struct {
		Conversation string `json:"conversation"`
		BeforeSeq    int64  `json:"before_seq,omitempty"`
		AfterSeq     *int64 `json:"after_seq,omitempty"`
		Limit        int    `json:"limit,omitempty"`
	}
	// Conversations asks for the user's conversations, the latest first, or for those behind an earlier page by its Next.
	Conversations struct {
		Limit int    `json:"limit,omitempty"`
		Next  string `json:"next,omitempty"`
	}
	// Read tells up to which seq the user has read.
	Read struct {
		Conversation string `json:"conversation"`
		Seq          int64  `json:"seq"`
	}
	// Recall withdraws the user's own message.
	Recall struct {
		Conversation string `json:"conversation"`
		MessageID    string `json:"message_id"`
	}
	// Edit replaces the content of the user's own message. A repeat with the same ClientMsgID undoes no later edit.
	Edit struct {
		Conversation string `json:"conversation"`
		MessageID    string `json:"message_id"`
		Content      string `json:"content"`
		ClientMsgID  string `json:"client_msg_id,omitempty"`
	}
	// Typing tells that the user is writing.
	Typing struct{ Target }
	// Presence asks which of the users are online.
	Presence struct {
		Users []int64 `json:"users"`
	}
	// GroupCreate creates a group. A repeat with the same ClientMsgID creates no second one. Join is [events.JoinOpen] for a
	// group that anybody may enter, or empty.
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
	// GroupJoin enters an open group, or one that the user has left by itself. A repeat with the same ClientMsgID undoes
	// nothing that came between; so do those of the requests below.
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
	// Ping asks for a pong.
	Ping struct{}
)

func (Connect) verb() string       { return "connect" }
func (Refresh) verb() string       { return "refresh" }
func (Send) verb() string          { return "send" }
func (History) verb() string       { return "history" }
func (Conversations) verb() string { return "conversations" }
func (Read) verb() string          { return "read" }
func (Recall) verb() string        { return "recall" }
func (Edit) verb() string          { return "edit" }
func (Typing) verb() string        { return "typing" }
func (Presence) verb() string      { return "presence" }
func (GroupCreate) verb() string   { return "group_create" }
func (GroupInfo) verb() string     { return "group_info" }
func (GroupJoin) verb() string     { return "group_join" }
func (GroupLeave) verb() string    { return "group_leave" }
func (GroupAdd) verb() string      { return "group_add" }
func (GroupRemove) verb() string   { return "group_remove" }
func (Ping) verb() string          { return "ping" }

// Encode returns the frame of a request, or [ErrNotUTF8] if a text in it is none.
func Encode(id int64, r Request) ([]byte, error) {
	if err := checkText(r); err != nil {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.verb(), err)
	}
	text := make([]byte, 0, len(body)+48)
	text = append(text, `{"id":`...)
	text = strconv.AppendInt(text, id, 10)
	text = append(text, `,"`...)
	text = append(text, r.verb()...)
	text = append(text, `":`...)
	text = append(text, body...)
	return append(text, '}'), nil
}
