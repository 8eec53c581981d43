package store

import (
	"slices"

	"millrace/events"
)

// Grant says that a user has a role in a group from a position on, until a later grant to the same user.
type Grant struct {
	Seq, User int64
	Role      events.Role
}

// Grants are all of a group in ascending order. The first makes the user who has created the group its owner; its position
// counts as 0. They are kept, because who comes later to a record has to know what a user was allowed at its position.
type Grants []Grant

// Founded returns the grants of a group that the user has created.
func Founded(user int64) Grants { return Grants{{User: user, Role: events.RoleOwner}} }

func (g Grants) founder() int64 {
	if len(g) == 0 {
		return 0
	}
	return g[0].User
}

// owner returns the latest grant of the ownership before the position.
func (g Grants) owner(seq int64) (owner Grant) {
	for _, grant := range g {
		if grant.Role == events.RoleOwner && grant.Seq < seq {
			owner = grant
		}
	}
	return owner
}

// maxSeq is a position after all others.
const maxSeq = 1 << 62

// Owner returns the present owner, or 0 if there is no group.
func (g Grants) Owner() int64 { return g.owner(maxSeq).User }

// Admins returns the present admins, without the owner, in ascending order.
func (g Grants) Admins() []int64 {
	var admins []int64
	for _, grant := range g {
		admins = slices.DeleteFunc(admins, func(user int64) bool { return user == grant.User })
		if grant.Role == events.RoleAdmin {
			admins = append(admins, grant.User)
		}
	}
	slices.Sort(admins)
	return admins
}

// Made returns the grants that a change makes if it takes effect: a former owner becomes an admin, and an admin who leaves has
// no role any more.
func (g Grants) Made(r *events.Record) []Grant {
	switch {
	case r.Type == events.MemberRole && r.Role == events.RoleOwner:
		return []Grant{{r.Seq, g.owner(r.Seq).User, events.RoleAdmin}, {r.Seq, r.User, events.RoleOwner}}
	case r.Type == events.MemberRole:
		return []Grant{{r.Seq, r.User, r.Role}}
	case r.Type == events.MemberLeft && g.role(r.User, r.Seq) == events.RoleAdmin:
		return []Grant{{r.Seq, r.User, events.RoleMember}}
	}
	return nil
}

// With returns the grants together with those that the change makes.
func (g Grants) With(r *events.Record) Grants {
	if g.has(r.Seq) {
		return g
	}
	return append(slices.Clone(g), g.Made(r)...)
}

// has reports whether there are grants of the position.
func (g Grants) has(seq int64) bool {
	return slices.ContainsFunc(g, func(grant Grant) bool { return grant.Seq == seq })
}

// overtake reports whether there is a later grant to the same user, or of the ownership if the change gives that away.
func (g Grants) overtake(r *events.Record) bool {
	return slices.ContainsFunc(g, func(later Grant) bool {
		return later.Seq > r.Seq && (later.User == r.User || later.Role == events.RoleOwner && r.Role == events.RoleOwner)
	})
}

// Role returns the present role of a member.
func (g Grants) Role(user int64) events.Role { return g.role(user, maxSeq) }

// role returns the role that a member has before the position.
func (g Grants) role(user, seq int64) events.Role {
	role := events.RoleMember
	for _, grant := range g {
		if grant.User == user && grant.Seq < seq {
			role = grant.Role
		}
	}
	return role
}

// Latest returns the position of the latest grant.
func (g Grants) Latest() int64 {
	if len(g) == 0 {
		return 0
	}
	return g[len(g)-1].Seq
}

// Standing is what a user is in a group, which the group's grants and the user's stays say.
type Standing struct {
	User   int64
	Grants Grants
	Stays  []Membership
}

// Standing returns what a user with these stays is in the group.
func (g *Group) Standing(user int64, stays []Membership) Standing {
	return Standing{user, g.Grants, stays}
}

// Role returns the user's role before the position, or an empty one if the user was no member then.
func (s Standing) Role(seq int64) events.Role {
	if !slices.ContainsFunc(s.Stays, func(m Membership) bool { return m.Joined < seq && (m.Left == 0 || m.Left >= seq) }) {
		return ""
	}
	return s.Grants.role(s.User, seq)
}

// Present returns the user's role now, or an empty one if the user is no member.
func (s Standing) Present() events.Role { return s.Role(maxSeq) }

// may reports whether the user has at least the role at the record's position. It returns an error if the user never had it
// before.
func (s Standing) may(least events.Role, r *events.Record) (bool, error) {
	enough := func(role events.Role) bool { return role == events.RoleOwner || role == least }
	switch {
	case enough(s.Role(r.Seq)):
		return true, nil
	case slices.ContainsFunc(s.Grants, func(g Grant) bool { return g.User == s.User && g.Seq < r.Seq && enough(g.Role) }):
		return false, nil
	case least == events.RoleOwner:
		return false, refused("by user %d, who does not own the group", s.User)
	}
	return false, refused("by user %d, who is no admin of the group", s.User)
}
