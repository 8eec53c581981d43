package message

import (
	"context"

	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
)

// membership returns the group and what the user is in it, once the store has what the log has now. The error is errNoGroup if the
// user is no member.
func (s *Service) membership(ctx context.Context, user, group int64) (store.Group, store.Standing, error) {
	of, err := s.standingNow(ctx, user, group)
	switch {
	case err != nil:
		return store.Group{}, store.Standing{}, err
	case !of.member():
		return store.Group{}, store.Standing{}, errNoGroup
	}
	g, err := s.store.Group(ctx, group)
	return g, g.Standing(user, of), err
}

// governed is membership for what only the owner and the admins may do.
func (s *Service) governed(ctx context.Context, user, group int64) (store.Group, store.Standing, error) {
	g, me, err := s.membership(ctx, user, group)
	if err == nil && !me.Present().Governs() {
		err = refuse(codes.PermissionDenied, "user %d is no admin of group %d", user, group)
	}
	return g, me, err
}

func errNotOwner(user, group int64) error {
	return refuse(codes.PermissionDenied, "user %d does not own group %d", user, group)
}

// standing is a user's stays in a group, the first one first.
type standing []store.Membership

func (s *Service) stays(ctx context.Context, user, group int64) (standing, error) {
	if err := checkUser(user); err != nil {
		return nil, err
	}
	return s.store.Stays(ctx, user, group)
}

// standing is for what only members may see: before it says that a user is none, it waits as standingNow does.
func (s *Service) standing(ctx context.Context, user, group int64) (standing, error) {
	of, err := s.stays(ctx, user, group)
	if err != nil || of.member() {
		return of, err
	}
	return s.standingNow(ctx, user, group)
}

// standingNow is for what changes a group: it waits until the store has what the log has now. By the stays of an older store,
// for example one that was put back from a backup, a change might seem to be made already, or its event would get the id of
// an earlier one and count as its repeat.
func (s *Service) standingNow(ctx context.Context, user, group int64) (standing, error) {
	if err := checkUser(user); err != nil {
		return nil, err
	}
	if err := s.storedNow(ctx, events.Group(group)); err != nil {
		return nil, err
	}
	return s.stays(ctx, user, group)
}

func (of standing) last() store.Membership {
	if len(of) == 0 {
		return store.Membership{}
	}
	return of[len(of)-1]
}

func (of standing) member() bool { return len(of) > 0 && of.last().Left == 0 }

// invited reports whether the user is in the group, or has left it by itself.
func (of standing) invited() bool { return len(of) > 0 && !of.last().Removed }
