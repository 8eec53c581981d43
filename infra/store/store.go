// Package store defines what is kept of the log for reading: messages by conversation, events by position, the heads of
// conversations, groups with their members and the positions of their stays, and the stored position of each partition. The
// storage handler writes it and the message service reads it. The packages below it implement it, and pass storetest.
package store

import (
	"errors"

	"millrace/events"
)

// ErrNotFound is returned if a group or a message does not exist.
var ErrNotFound = errors.New("not found")

// StoredMessage is a message as history shows it.
type StoredMessage struct {
	events.Message
	// Seq is the position of its new_message event; it orders the conversation.
	Seq int64
	// EditedAt is the time of the latest edit in Unix seconds, or 0 if there was none.
	EditedAt int64
}

// MessageKey identifies a message.
type MessageKey struct{ Conversation, MessageID string }

// Page says which part of a conversation to return. Its bounds are exclusive.
type Page struct {
	// After and Before bound the seq; a Before of 0 means no upper bound.
	After, Before int64
	// Newest selects the highest seqs within the bounds instead of the lowest. The page ascends either way.
	Newest bool
	Limit  int
	// AsOf selects messages as they were at that position, without edits and recalls after it; 0 means as they are now.
	// Messages of the Reader itself are always as they are now.
	AsOf, Reader int64
}

// Place is where a conversation is in a user's list. The conversation that was active last comes first; of those that were
// active in the same second, the one whose name sorts last. The zero Place comes before all.
type Place struct {
	// ActiveAt is the time of the latest message or change of membership, in Unix seconds.
	ActiveAt     int64
	Conversation string
}

// Head is a conversation in a user's list.
type Head struct {
	Place
	// Last is the newest message that the user may see, or nil in a group without any.
	Last *StoredMessage
	// Unread counts the messages of others after ReadSeq, in all stays, up to 999.
	Unread  int
	ReadSeq int64
	// What the user has set; MutedUntil is in Unix seconds, or 0.
	MutedUntil     int64
	Pinned, Hidden bool
}

// Hide sets whether the conversation is hidden, according to a setting at the position seq. A later message has ended that.
func (h *Head) Hide(hidden bool, seq int64) {
	h.Hidden = hidden && (h.Last == nil || h.Last.Seq < seq)
}

// Reader is a user who has read a conversation up to Seq.
type Reader struct{ User, Seq int64 }

// Pair is two users of whom the first may have blocked the second.
type Pair struct{ By, User int64 }

// Block says whether a pair is blocked, according to its latest event, which has the position Seq.
type Block struct {
	Seq     int64
	Blocked bool
}

// Group is a group without its members.
type Group struct {
	ID   int64
	Name string
	// Open says that anybody who knows the group's id may join.
	Open bool
	// Dissolved is the position at which the group was dissolved, or 0. Since then it has no members and accepts no messages.
	Dissolved int64
	Grants    Grants
	// Mutes says by user until when it is muted, in Unix seconds, which may have passed. The user 0 stands for all but the owner
	// and the admins, who are never muted.
	Mutes map[int64]int64
}

// Membership is one stay of a user in a group. The user sees what lies in (Joined, Left].
type Membership struct {
	GroupID int64
	User    int64
	Joined  int64
	Left    int64 // 0: the user is still a member
	// Removed says that somebody else ended the stay: the user was removed or the group dissolved.
	Removed bool
}
