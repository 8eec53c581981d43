package store

import (
	"fmt"

	"millrace/events"
)

// The rules that take a look at what is stored, one function for each kind of record. Every store holds records against
// them when it saves, and whoever shows records that are not stored yet asks the same functions. A refusal is permanent, so
// it puts the record into the poison queue, with the rule as its reason.

// Original is what a change has to fit: the message that it is about.
type Original struct {
	// From is the message's author, Seq its position.
	From, Seq int64
}

// CheckChange refuses an edit or a recall that does not fit the message with its id in its conversation, nil if there is none.
func CheckChange(r *events.Record, m *Original) error {
	switch {
	case m == nil:
		return refused("unknown message %.80q", r.MessageID)
	case m.From != r.By:
		return refused("by user %d, who is not the author of the message", r.By)
	case m.Seq != r.MessageSeq:
		return refused("seq %d, but the message has %d", r.MessageSeq, m.Seq)
	}
	return nil
}

// CheckRepeat refuses a message that has the id of another user's.
func CheckRepeat(r *events.Record, m *Original) error {
	if m.From != r.Message.From {
		return refused("a message of another user has the id %.80q", r.Message.MessageID)
	}
	return nil
}

// CheckSender refuses a group message by a user with these stays in the group, unless it was a member at the record's
// position; see [events.Message].Authorized for when it is enough that it was one before.
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

// CheckMembership refuses a change of a group that has this owner, 0 if it does not exist, by a user who may not make it.
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

// CheckEntry refuses who enters by itself a group that is not open, unless it left it by itself before. It is for changes
// that [Takes] lets through.
func CheckEntry(r *events.Record, open bool, stays []Membership) error {
	if r.Type != events.MemberJoined || r.By != r.User || open || len(stays) > 0 && !latest(stays).Removed {
		return nil
	}
	return refused("group %d is closed to user %d", r.GroupID, r.User)
}

// Takes reports whether the change of membership has an effect on a user with these stays: it is not overtaken by a later
// one, and brings in whom the group does not have, or takes out whom it has.
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
