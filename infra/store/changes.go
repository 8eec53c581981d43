package store

import (
	"slices"

	"millrace/events"
)

// CheckCreation returns an error if the record creates a group that another user has created before.
func (g *Group) CheckCreation(r *events.Record) error {
	if founder := g.Grants.founder(); founder != 0 && founder != r.User {
		return refused("group %d exists and is not of user %d", r.GroupID, r.User)
	}
	return nil
}

// Decide reports whether a change of the group takes effect, or has done so before, according to what the group was at the
// record's position. The stays are those of the user who makes the change, and of the one whom it is about. The error is for a
// change by who may not make it. But who was allowed to before, and is not any more, has only lost a race: such a change has no
// effect and is nobody's fault.
func (g *Group) Decide(r *events.Record, by, of []Membership) (effective bool, err error) {
	actor, target := g.Standing(r.By, by), g.Standing(r.User, of)
	switch {
	case g.Grants.founder() == 0:
		return false, unknownGroup(r.GroupID)
	case g.Dissolved != 0 && g.Dissolved < r.Seq:
		return false, nil
	}
	switch r.Type {
	case events.GroupDissolved:
		return actor.may(events.RoleOwner, r)
	case events.GroupRenamed:
		return actor.may(events.RoleAdmin, r)
	case events.MemberJoined:
		return g.admits(r, actor, of)
	case events.MemberLeft:
		return g.dismisses(r, actor, target)
	case events.MemberMuted:
		effective, err = actor.may(events.RoleAdmin, r)
		return effective && (r.User == 0 || target.Role(r.Seq) == events.RoleMember), err
	case events.MemberRole:
		effective, err = actor.may(events.RoleOwner, r)
		role := target.Role(r.Seq)
		return effective && (g.Grants.has(r.Seq) || role != "" && role != r.Role && !g.Grants.overtake(r)), err
	}
	return false, nil
}

// admits decides about a user who comes in by itself or is added. By itself a user comes only into an open group, or back into
// one that it has left by itself.
func (g *Group) admits(r *events.Record, actor Standing, of []Membership) (effective bool, err error) {
	if r.By != r.User {
		if effective, err = actor.may(events.RoleAdmin, r); !effective {
			return false, err
		}
	}
	switch {
	case slices.ContainsFunc(of, func(s Membership) bool { return s.Joined == r.Seq }):
		return true, nil
	case !Takes(r, of):
		return false, nil
	case r.By == r.User && !g.Open && (len(of) == 0 || latest(of).Removed):
		return false, refused("group %d is closed to user %d", r.GroupID, r.User)
	}
	return true, nil
}

// dismisses decides about a user who leaves or is removed. Only the owner removes an admin.
func (g *Group) dismisses(r *events.Record, actor, target Standing) (effective bool, err error) {
	if r.By != r.User {
		if effective, err = actor.may(events.RoleAdmin, r); !effective {
			return false, err
		}
	}
	switch role := target.Role(r.Seq); {
	case role == events.RoleOwner && r.By == r.User && g.Grants.owner(r.Seq).Seq == 0:
		return false, refused("the owner of group %d leaves it by dissolving it", r.GroupID)
	case role == events.RoleOwner, role == events.RoleAdmin && r.By != r.User && actor.Role(r.Seq) != events.RoleOwner:
		return false, nil // the role may be younger than what its author knew
	}
	if slices.ContainsFunc(target.Stays, func(s Membership) bool { return s.Left == r.Seq }) {
		return true, nil
	}
	return Takes(r, target.Stays) && !g.Grants.overtake(r), nil
}

// Takes reports whether the joining or leaving changes anything for a user with these stays: no later change has overtaken
// it, and it adds somebody who is no member, or removes a member.
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
