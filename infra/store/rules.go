package store

import (
	"fmt"

	"millrace/events"
)

// This file has the rules that need what is stored, one function for each kind of record. Every store checks records against
// them when it saves, and code that delivers records which are not stored yet calls the same functions. Their errors are
// permanent, so the record goes to the poison queue with the rule as its reason. The rules for changes of groups are in
// changes.go.

// Original is the message that a change is about, as far as the rules need it.
type Original struct {
	// From is the message's author; Seq is its position.
	From, Seq int64
}

// CheckChange returns an error for an edit or a recall that does not fit m, the message with its id in its conversation; nil
// means that there is none. The owner and the admins of a group recall every message of it: for a change that is [Foreign], by
// has the standing of the user who makes it. CheckChange reports whether the change may take effect, which a recall by who was
// an admin once, and is not any more, does not.
func CheckChange(r *events.Record, m *Original, by Standing) (effective bool, err error) {
	switch {
	case m == nil:
		return false, refused("unknown message %.80q", r.MessageID)
	case m.From != r.By && !r.ByModeration() && !Foreign(r, m):
		return false, refused("by user %d, who is not the author of the message", r.By)
	case m.Seq != r.MessageSeq:
		return false, refused("seq %d, but the message has %d", r.MessageSeq, m.Seq)
	case m.From == r.By || r.ByModeration():
		return true, nil
	}
	return by.may(events.RoleAdmin, r)
}

// Foreign reports whether the change is a recall of a group's message by another user than its author, and not by moderation.
func Foreign(r *events.Record, m *Original) bool {
	if r.Type != events.MessageRecalled || m == nil || m.From == r.By || r.ByModeration() {
		return false
	}
	c, err := events.ParseConversation(r.Conversation)
	return err == nil && c.GroupID != 0
}

// CheckRepeat returns an error for a message whose id is that of another user's message.
func CheckRepeat(r *events.Record, m *Original) error {
	if m.From != r.Message.From {
		return refused("a message of another user has the id %.80q", r.Message.MessageID)
	}
	return nil
}

// CheckSender returns an error for a group message by a user who was no member at the record's position, according to the
// user's stays in the group. See [events.Message].Authorized for when an earlier stay is enough.
func CheckSender(r *events.Record, groupExists bool, stays []Membership) error {
	if !groupExists {
		return unknownGroup(r.Message.GroupID)
	}
	for _, s := range stays {
		if s.Joined < r.Seq && (s.Left == 0 || r.Seq < s.Left || r.Message.Authorized) {
			return nil
		}
	}
	return refused("user %d is no member of group %d", r.Message.From, r.Message.GroupID)
}

func unknownGroup(id int64) error { return refused("unknown group %d", id) }

func refused(format string, args ...any) error { return events.Permanent(fmt.Errorf(format, args...)) }
