// Package events defines what travels on the topics: the types of events, their JSON, the names of the topics, and the two
// numbers by which everything is ordered, partition and position. Producers publish an [Event] with its conversation as the
// key, or with its user or notice (see [Event.Key]). Consumers decode the record with [Decode], which checks it and derives what a foreign producer left out.
package events

import (
	"fmt"
	"slices"
	"strconv"

	millracev1 "millrace/proto/millrace/v1"
)

// Type names what happened.
type Type string

// The types of events on message-events. Handlers skip the types that they do not know.
const (
	NewMessage      Type = "new_message"
	MessageEdited   Type = "message_edited"
	MessageRecalled Type = "message_recalled"
	MessageRead     Type = "message_read"
	GroupCreated    Type = "group_created"
	MemberJoined    Type = "member_joined"
	MemberLeft      Type = "member_left"
	GroupDissolved  Type = "group_dissolved"
	GroupRenamed    Type = "group_renamed"
	MemberRole      Type = "member_role"
	MemberMuted     Type = "member_muted"

	ConversationSettings Type = "conversation_settings"

	// MessageModerated says that moderation has recalled a message, and why. It follows the recall, and only the message's
	// sender is told.
	MessageModerated Type = "message_moderated"
)

// The types of events on user-events.
const (
	// UserOnline and UserOffline say that the user has a connection to some gateway, or to none any more.
	UserOnline  Type = "user_online"
	UserOffline Type = "user_offline"
	// UserBlocked and UserUnblocked say whose direct messages, typing and questions for presence a user refuses from then on,
	// or no longer.
	UserBlocked   Type = "user_blocked"
	UserUnblocked Type = "user_unblocked"
	// TokensRevoked says that the tokens of the user that were issued before a time are not valid any more.
	TokensRevoked Type = "tokens_revoked"
)

// The types of events on system-events.
const (
	// SystemNotice is a notice to everybody who is online, or to some of them.
	SystemNotice Type = "system_notice"
	// OperatorCalled says that a call of the API for backends, by a key that permits everything, is about to be made. It says
	// nothing of how the call has ended.
	OperatorCalled Type = "operator_called"
)

// The limits of what an event may carry.
const (
	MaxID             = 1<<53 - 1 // users, groups, seq and timestamps: what a JSON number holds exactly
	MaxContentBytes   = 32 << 10
	MaxExtraBytes     = 4 << 10
	MaxMentions       = 50
	MaxClientMsgBytes = 64
	MaxGroupMembers   = 10_000
	MaxGroupNameBytes = 256
	MaxReasonBytes    = 1024
	MaxNoticeUsers    = 10_000
	MaxClaimBytes     = 256 // of the user_type and region that a notice is for
)

// The kinds of content that a message_type names: 1 text, 2 image, 3 file, 4 audio, 5 video, 6 location. Applications may use
// the types from FirstOwnMessageType on for their own. Those between are reserved and refused.
const (
	lastNamedMessageType = 6
	FirstOwnMessageType  = 100
)

// JoinOpen is the Join of a group that anybody may enter.
const JoinOpen = "open"

// Event is one record of a topic. Which fields are set depends on the type:
//
//	new_message                   Message
//	message_edited                Conversation, MessageID, MessageSeq, By, Content, Extra
//	message_recalled              Conversation, MessageID, MessageSeq, By, or Reason in place of By if moderation recalls
//	message_moderated             Conversation, MessageID, MessageSeq, User (the message's sender), Reason
//	message_read                  Conversation, User, MessageSeq
//	group_created                 Conversation, GroupID, User (the owner), By, Name, Members, Join, ClientMsgID
//	member_joined, member_left    Conversation, GroupID, User, By
//	group_dissolved               Conversation, GroupID, User (the owner), By
//	group_renamed                 Conversation, GroupID, By, Name
//	member_role                   Conversation, GroupID, User, By, Role
//	member_muted                  Conversation, GroupID, User (0: all but owner and admins), By, Until
//	conversation_settings         Conversation, User, Settings
//	user_online, user_offline     User
//	user_blocked, user_unblocked  User (who is blocked), By
//	tokens_revoked                User, Before
//	system_notice                 NoticeID, Content, Extra, To
//	operator_called               Call
type Event struct {
	Type    Type     `json:"type"`
	Message *Message `json:"message,omitempty"`

	// EventID is the same for every repeat of an event. A new_message has the message's id as its event id, and no event_id
	// on the topic.
	EventID      string  `json:"event_id,omitempty"`
	Conversation string  `json:"conversation,omitempty"`
	MessageID    string  `json:"message_id,omitempty"`
	MessageSeq   int64   `json:"seq,omitempty"` // the seq of the message that the event is about
	Content      string  `json:"content,omitempty"`
	Extra        Extra   `json:"extra,omitempty"` // what the message has after an edit; none: the edit has removed it
	GroupID      int64   `json:"group_id,omitempty"`
	User         int64   `json:"user,omitempty"`
	By           int64   `json:"by,omitempty"`
	Name         string  `json:"name,omitempty"`
	Members      []int64 `json:"members,omitempty"`       // ascending, the owner included
	Join         string  `json:"join,omitempty"`          // [JoinOpen] if anybody may join; else only those who left by themselves may come back
	ClientMsgID  string  `json:"client_msg_id,omitempty"` // the id by which the owner repeats the creation of a group
	Reason       string  `json:"reason,omitempty"`        // why moderation has recalled the message
	Role         Role    `json:"role,omitempty"`
	Until        *int64  `json:"until,omitempty"` // Unix seconds until which a user is muted; 0: it is not any more
	Settings

	Before   int64     `json:"before,omitempty"` // Unix seconds: tokens that were issued before it are revoked
	NoticeID string    `json:"notice_id,omitempty"`
	To       *Audience `json:"to,omitempty"` // nil: everybody
	Call     *Call     `json:"call,omitempty"`

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

	Extra    Extra   `json:"extra,omitempty"`
	ReplyTo  string  `json:"reply_to,omitempty"` // the id of the message that this one answers
	Mentions []int64 `json:"mentions,omitempty"` // users
	// Authorized is set by a producer that has checked by itself that the sender is a member of the group, as message nodes
	// do. Their check uses a membership that they read a moment earlier, so the sender may have left just before the
	// message's position. With Authorized the sender must have been a member at some time; without it, the sender must be one
	// at the message's position.
	Authorized bool `json:"authorized,omitempty"`
	// Recalled is set by the store only. It marks a message that was recalled, whose content is gone.
	Recalled bool `json:"recalled,omitempty"`
}

// Record is an event with the position that the log gave it.
type Record struct {
	Event
	Position
	// Replay reports that the record comes from the poison queue. It has its original position, which is lower than the
	// positions of records that were handled since.
	Replay bool
	// Trace names the span of a trace in which the record was published or is being handled. It is nil unless that is recorded.
	Trace *millracev1.TraceContext

	// Value and Headers are the record as it stands on its topic, and Origin is, if it is a copy, the position of its original
	// on message-events; see [OriginHeader]. The router sets them. Nobody may change them, and who keeps a record for long
	// should drop Value and Headers, which keep the fetch that it came with in memory.
	Value   []byte
	Headers Headers
	Origin  Position
}

// ConversationKey returns the event's conversation, which is the key of its record. All events of a conversation have the same
// key, and so the same partition.
func (e *Event) ConversationKey() string {
	if e.Message != nil {
		return e.Message.Conversation
	}
	return e.Conversation
}

// Key returns the key of the event's record: on user-events the user whose state it is, on system-events the notice's id or
// the name of the key that has called, and the conversation on the other topics. A block is the state of the user who blocks, so
// that all that one user blocks and unblocks is in one order. Notices have no order among them, and all that repeats one is in
// one partition. The calls by one key are in the order in which they were published.
func (e *Event) Key() string {
	switch {
	case e.Type == UserBlocked || e.Type == UserUnblocked:
		return strconv.FormatInt(e.By, 10)
	case e.Type.On(TopicUsers):
		return strconv.FormatInt(e.User, 10)
	case e.Type == OperatorCalled && e.Call != nil:
		return e.Call.Key
	case e.Type.On(TopicSystem):
		return e.NoticeID
	}
	return e.ConversationKey()
}

// On reports whether this version of the program knows the type as one of the topic's.
func (t Type) On(topic string) bool {
	switch topic {
	case TopicUsers:
		switch t {
		case UserOnline, UserOffline, UserBlocked, UserUnblocked, TokensRevoked:
			return true
		}
		return false
	case TopicGroups:
		return slices.Contains(GroupChanges(), t)
	case TopicSystem:
		return t == SystemNotice || t == OperatorCalled
	}
	return t.Known()
}

// GroupChanges returns the types of changes of groups, which are those of group-events.
func GroupChanges() []Type {
	return []Type{GroupCreated, MemberJoined, MemberLeft, GroupDissolved, GroupRenamed, MemberRole, MemberMuted}
}

// Known reports whether this version of the program knows the type as one of message-events.
func (t Type) Known() bool {
	switch t {
	case NewMessage, MessageEdited, MessageRecalled, MessageRead, GroupCreated, MemberJoined, MemberLeft, GroupDissolved,
		GroupRenamed, MemberRole, MemberMuted, ConversationSettings, MessageModerated:
		return true
	}
	return false
}

// ByModeration reports whether the event is a recall by moderation, which may recall every message.
func (e *Event) ByModeration() bool { return e.Type == MessageRecalled && e.By == 0 }

// InvalidError says why an event breaks the rules. It is permanent: handling the same record again gives the same error.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return "invalid event: " + e.Reason }

func invalid(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}
