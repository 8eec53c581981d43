package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndRolesAndMutesHoldOnEveryGatewayAndAreResumed(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	second := startSecondGateway(t, d)
	a, b, c := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, second, proof.Bob, nil), proof.Join(t, second, proof.Carol, nil)
	ctx, cursor := t.Context(), c.Cursor()
	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob, proof.Carol}})
	require.NoError(t, err)
	id, room := group.GroupID, client.ToGroup(group.GroupID)
	refused := func(code string, u *proof.User, r client.Request) {
		t.Helper()
		_, err := u.Call(ctx, r)
		require.ErrorIs(t, err, &client.Error{Code: code})
	}
	done := func(u *proof.User, r client.Request) client.Group {
		t.Helper()
		g, err := u.Group(ctx, r)
		require.NoError(t, err)
		return g
	}

	refused(client.PermissionDenied, b, client.GroupRole{GroupID: id, User: proof.Carol, Role: events.RoleAdmin})
	refused(client.PermissionDenied, b, client.GroupMute{GroupID: id, Until: 9_999_999_999})
	refused(client.InvalidArgument, a, client.GroupRole{GroupID: id, User: proof.Bob, Role: "king"})
	refused(client.InvalidArgument, a, client.GroupMute{GroupID: id, User: proof.Bob, Until: -1})
	refused(client.NotFound, a, client.GroupRole{GroupID: 5, User: proof.Bob, Role: events.RoleAdmin})

	require.Equal(t, []int64{proof.Bob}, done(a, client.GroupRole{GroupID: id, User: proof.Bob, Role: events.RoleAdmin}).Admins)
	until := time.Now().Add(time.Hour).Unix()
	require.Equal(t, map[int64]int64{proof.Carol: until}, done(b, client.GroupMute{GroupID: id, User: proof.Carol, Until: until}).Muted)
	refused(client.PermissionDenied, c, client.Send{Target: room, Content: "muted"})
	done(b, client.GroupMute{GroupID: id, User: proof.Carol})
	said := c.Sends(t, room, "not any more")
	require.NoError(t, b.Do(ctx, client.Recall{Conversation: said.Conversation, MessageID: said.MessageID}))
	require.Equal(t, until, done(a, client.GroupMute{GroupID: id, Until: until}).MutedUntil)
	refused(client.PermissionDenied, c, client.Send{Target: room, Content: "muted"})
	b.Sends(t, room, "admins write")
	owned := done(a, client.GroupRole{GroupID: id, User: proof.Bob, Role: events.RoleOwner})
	require.EqualValues(t, proof.Bob, owned.Owner)
	require.Equal(t, []int64{proof.Alice}, owned.Admins)
	info, err := c.Group(ctx, client.GroupInfo{GroupID: id})
	require.NoError(t, err)
	require.Equal(t, owned, info)
	done(b, client.GroupRole{GroupID: id, User: proof.Alice, Role: events.RoleMember})
	refused(client.PermissionDenied, a, client.GroupRemove{GroupID: id, User: proof.Carol})
	refused(client.PermissionDenied, a, client.Send{Target: room, Content: "muted like all"})

	require.NoError(t, c.Close())
	type change struct {
		kind     events.Type
		user, by int64
		role     events.Role
		until    int64
	}
	for _, u := range []*proof.User{a, b, c, proof.Join(t, d.url(), proof.Carol, cursor)} {
		for _, want := range []change{
			{events.MemberRole, proof.Bob, proof.Alice, events.RoleAdmin, 0},
			{events.MemberMuted, proof.Carol, proof.Bob, "", until},
			{events.MemberMuted, proof.Carol, proof.Bob, "", 0},
			{events.MemberMuted, 0, proof.Alice, "", until},
			{events.MemberRole, proof.Bob, proof.Alice, events.RoleOwner, 0},
			{events.MemberRole, proof.Alice, proof.Bob, events.RoleMember, 0},
		} {
			push := u.Sees(t, string(want.kind))
			require.Equal(t, id, push.GroupID)
			require.NotEmpty(t, push.Pos)
			got := change{push.Type, push.User, push.By, push.Role, 0}
			if push.Until != nil {
				got.until = *push.Until
			}
			require.Equal(t, want, got)
			require.Equal(t, push.Type == events.MemberMuted, push.Until != nil)
		}
	}
}
