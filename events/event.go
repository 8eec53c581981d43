// Package events is what travels on the topics: the event types, their JSON, the topic names, and the two numbers that
// order everything, partition and position. A message is published as an [Event] keyed by its conversation; every
// consumer decodes the record with [Decode], which checks it and derives what a foreign producer left out.
package events

import "fmt"

// Type names what happened.
type Type string

// The types of message-events. Handlers skip types they do not know.
const (
	NewMessage      Type = "new_message"
	MessageEdited   Type = "message_edited"
	MessageRecalled Type = "message_recalled"
	MessageRead     Type = "message_read"
	GroupCreated    Type = "group_created"
	MemberJoined    Type = "member_joined"
	MemberLeft      Type = "member_left"
	GroupDissolved  Type = "group_dissolved"
)

// Limits of what an event may carry.
const (
	MaxID             = 1<<53 - 1 // users, groups, seq and timestamps: what a JSON number holds exactly
	MaxContentBytes   = 32 << 10
	MaxClientMsgBytes = 64
	MaxGroupMembers   = 10_000
	MaxGroupNameBytes = 256
)

// What a message's content is, as its message_type says: 1 text, 2 image, 3 file, 4 audio, 5 video, 6 location. The types
// from FirstOwnMessageType on are an application's own; those between are not given out yet and refused.
const (
	lastNamedMessageType = 6
	FirstOwnMessageType  = 100
)

// JoinOpen is the Join of a group that anybody may enter.
const JoinOpen = "open"

// Event is one record of message-events. Which fields are set depends on the type:
//
//	new_message                   Message
//	message_edited                Conversation, MessageID, MessageSeq, By, Content
//	message_recalled              Conversation, MessageID, MessageSeq, By
//	message_read                  Conversation, User, MessageSeq
//	group_created                 Conversation, GroupID, User (the owner), By, Name, Members, Join, ClientMsgID
//	member_joined, member_left    Conversation, GroupID, User, By
//	group_dissolved               Conversation, GroupID, User (the owner), By
type Event struct {
	Type    Type     `json:"type"`
	Message *Message `json:"message,omitempty"`

	// EventID is the same for every repeat of one event. For a new_message it is the message id and not on the topic.
	EventID      string  `json:"event_id,omitempty"`
	Conversation string  `json:"conversation,omitempty"`
	MessageID    string  `json:"message_id,omitempty"`
	MessageSeq   int64   `json:"seq,omitempty"` // of the message that the event is about
	Content      string  `json:"content,omitempty"`
	GroupID      int64   `json:"group_id,omitempty"`
	User         int64   `json:"user,omitempty"`
	By           int64   `json:"by,omitempty"`
	Name         string  `json:"name,omitempty"`
	Members      []int64 `json:"members,omitempty"`       // ascending, the owner among them
	Join         string  `json:"join,omitempty"`          // who may enter a group by itself: anybody if [JoinOpen], else who left it by itself
	ClientMsgID  string  `json:"client_msg_id,omitempty"` // what the owner of a new group calls it by when it repeats the creation

	Timestamp int64 `json:"timestamp"` // Unix seconds
}

// Message is a chat message. From, To, Content, MessageType and Timestamp are fixed by contract; a group message has
// GroupID in place of To.
type Message struct {
	MessageID    string `json:"message_id,omitempty"`
	ClientMsgID  string `json:"client_msg_id,omitempty"`
	Conversation string `json:"conversation,omitempty"`
	From         int64  `json:"from"`
	To           int64  `json:"to,omitempty"`
	GroupID      int64  `json:"group_id,omitempty"`
	Content      string `json:"content"`
	MessageType  int32  `json:"message_type"`
	Timestamp    int64  `json:"timestamp"` // Unix seconds
	// Authorized is what the producer of a group message sets once it has checked itself that the sender is a member, as
	// message nodes do. They go by a membership that they read a moment ago, so the sender may have left just before the
	// message's position: with Authorized it is enough that it was a member once, else it must be one at that position.
	Authorized bool `json:"authorized,omitempty"`
	// Recalled is set by the store alone, on a message that was withdrawn since; its content is gone.
	Recalled bool `json:"recalled,omitempty"`
}

// Record is an event with the position that the log gave it.
type Record struct {
	Event
	Position
	// Replay says that this is a record from the handler's poison queue which comes again at its original position, lower
	// than that of records which were handled since.
	Replay bool
}

// ConversationKey is the key of the event's record: everything that happens in a conversation has the same.
func (e *Event) ConversationKey() string {
	if e.Message != nil {
		return e.Message.Conversation
	}
	return e.Conversation
}

// Known reports whether this version of the program knows the type.
func (t Type) Known() bool {
	switch t {
	case NewMessage, MessageEdited, MessageRecalled, MessageRead, GroupCreated, MemberJoined, MemberLeft, GroupDissolved:
		return true
	}
	return false
}

// InvalidError says why an event cannot be what it says it is. It is permanent: trying again does not help.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return "invalid event: " + e.Reason }

func invalid(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}
