// Package store says what is kept of the log for reading: messages by conversation, events by position, the heads of
// conversations, groups with who belonged to them from when until when, and how far the log has been stored. The storage
// handler writes it, the message service reads it. Implementations are in the packages below and pass storetest.
package store

import (
	"errors"

	"millrace/events"
)

// ErrNotFound is returned where a group or a message that was asked for does not exist.
var ErrNotFound = errors.New("not found")

// StoredMessage is a message as history shows it.
type StoredMessage struct {
	events.Message
	// Seq is the position of its new_message event; it orders the conversation.
	Seq int64
	// EditedAt is the Unix time in seconds of the latest edit, 0 if there was none.
	EditedAt int64
}

// MessageKey names a message.
type MessageKey struct{ Conversation, MessageID string }

// Page says which part of a conversation is asked for. Bounds are exclusive.
type Page struct {
	// After and Before bound the seq; Before 0 means no upper bound.
	After, Before int64
	// Newest takes the highest seqs within the bounds, otherwise the lowest. The answer ascends either way.
	Newest bool
	Limit  int
	// AsOf shows messages as they stood at that position: without what was edited or recalled after it. 0: as they are now.
	// Messages of the Reader itself are always as they are now.
	AsOf, Reader int64
}

// Place is where a conversation stands in a user's list: the one that was active last is first, and of those that were
// active in the same second the one whose name sorts last. The zero Place lies before all.
type Place struct {
	// ActiveAt is the Unix time in seconds of the latest message or change of membership.
	ActiveAt     int64
	Conversation string
}

// Head is a conversation in a user's list.
type Head struct {
	Place
	// Last is the newest message the user may see; nil in a group without any.
	Last *StoredMessage
	// Unread counts others' messages after ReadSeq, of all stays, up to 999.
	Unread  int
	ReadSeq int64
}

// Group is a group as it is now, without its members.
type Group struct {
	ID    int64
	Name  string
	Owner int64
	// Open groups let in anybody who knows their id.
	Open bool
	// Dissolved groups have no members and take no more messages.
	Dissolved bool
}

// Membership is one stay of a user in a group: it sees what lies in (Joined, Left].
type Membership struct {
	GroupID int64
	User    int64
	Joined  int64
	Left    int64 // 0: still a member
	// Removed is set where the stay was ended by somebody else: the owner removed the user or dissolved the group.
	Removed bool
}
