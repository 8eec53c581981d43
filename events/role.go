package events

// Role is what a member of a group may do there. The owner decides about roles and may do everything. Admins add and remove
// members, mute them, recall their messages and rename the group. An owner or admin is never muted, and only the owner takes
// the role of an admin away or removes one.
type Role string

// The roles. A group has one owner at a time; whoever joins is a member.
const (
	RoleOwner  Role = "owner"
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
)

// Governs reports whether the role is that of the owner or of an admin.
func (r Role) Governs() bool { return r == RoleOwner || r == RoleAdmin }

// Validate returns an [InvalidError] unless it is one of the roles.
func (r Role) Validate() error {
	if !r.Governs() && r != RoleMember {
		return invalid("role %.80q: want owner, admin or member", string(r))
	}
	return nil
}

func (e *Event) validateRole() error {
	if e.By == e.User {
		return invalid("user %d gives itself a role", e.User)
	}
	return e.Role.Validate()
}

func (e *Event) validateMute() error {
	if e.Until == nil {
		return invalid("no until")
	}
	return validateTimestamp(*e.Until)
}
