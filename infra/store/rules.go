package store

import (
	"fmt"

	"millrace/events"
)

// This file has the rules that need what is stored, one function for each kind of record. Every store checks records against
// them when it saves, and code that delivers records which are not stored yet calls the same functions. Their errors are
// permanent, so the record goes to the poison queue with the rule as its reason.

// Original is the message that a change is about, as far as the rules need it.
type Original struct {
	// From is the message's author; Seq is its position.
	From, Seq int64
}

// CheckChange returns an error for an edit or a recall that does not fit m, the message with its id in its conversation; nil
// means that there is none.
func CheckChange(r *events.Record, m *Original) error {
	switch {
	case m == nil:
		return refused("unknown message %.80q", r.MessageID)
	case !MayChange(&r.Event, m.From):
		return refused("by user %d, who is not the author of the message", r.By)
	case m.Seq != r.MessageSeq:
		return refused("seq %d, but the message has %d", r.MessageSeq, m.Seq)
	}
	return nil
}

// MayChange reports whether who made the edit or recall had the right to change a message of the author.
func MayChange(e *events.Event, author int64) bool { return e.By == author || e.ByModeration() }

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

// CheckMembership returns an error for a change of a group by a user who may not make it: only the owner may, but for a user's
// own membership. The owner is 0 if the group does not exist.
func CheckMembership(r *events.Record, owner int64) error {
	switch {
	case r.Type == events.GroupCreated:
		if owner != 0 && owner != r.User {
			return refused("group %d exists and is not of user %d", r.GroupID, r.User)
		}
		return nil
	case owner == 0:
		return unknownGroup(r.GroupID)
	case r.By != owner && (r.Type == events.GroupDissolved || r.By != r.User):
		return refused("by user %d, who does not own group %d", r.By, r.GroupID)
	case r.Type == events.MemberLeft && r.User == owner:
		return refused("the owner of group %d leaves it by dissolving it", r.GroupID)
	}
	return nil
}

// CheckEntry returns an error if a user joins by itself a group that is not open, unless it left by itself before. It is for
// changes that [Takes] reports to have an effect.
func CheckEntry(r *events.Record, open bool, stays []Membership) error {
	if r.Type != events.MemberJoined || r.By != r.User || open || len(stays) > 0 && !latest(stays).Removed {
		return nil
	}
	return refused("group %d is closed to user %d", r.GroupID, r.User)
}

// Takes reports whether the change of membership has an effect on a user with these stays: no later change has overtaken it,
// and it adds somebody who is no member, or removes a member.
func Takes(r *events.Record, stays []Membership) bool {
	last := latest(stays)
	member := last.Joined != 0 && last.Left == 0
	return r.Seq > max(last.Joined, last.Left) && member != (r.Type == events.MemberJoined)
}

func latest(stays []Membership) (last Membership) {
	for _, s := range stays {
		if s.Joined > last.Joined {
			last = s
		}
	}
	return last
}

func unknownGroup(id int64) error { return refused("unknown group %d", id) }

func refused(format string, args ...any) error { return events.Permanent(fmt.Errorf(format, args...)) }
