package message

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

func muted(user int64, until time.Time) events.Event {
	e := change(events.MemberMuted, 7, user, 0)
	e.By, e.Until = 1, new(until.Unix())
	return e
}

func TestMuteOnAnotherNodeIsSeenWithinALeaseAndEndsByItself(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		until := time.Now().Add(time.Minute)
		st.set(func(s *oneGroup) { s.mutes = map[int64]int64{2: until.Unix()} }, muted(2, until))
		time.Sleep(lease)
		for time.Now().Before(until) {
			require.Equal(t, codes.PermissionDenied, codeOf(m.mayWrite(t.Context(), 2, 7)))
			require.NoError(t, m.check(t.Context(), 2, 7), "a muted member stays one")
			require.NoError(t, m.mayWrite(t.Context(), 1, 7))
			time.Sleep(time.Second)
		}
		require.NoError(t, m.mayWrite(t.Context(), 2, 7))
	})
}

func TestMuteOfAllSparesOwnerAndAdmins(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		until := time.Now().Add(time.Hour)
		st.set(func(s *oneGroup) { s.mutes, s.users = map[int64]int64{0: until.Unix()}, []int64{1, 2, 3} }, muted(0, until))
		time.Sleep(lease)
		for range 3 { // asked of the store, and of the roster later
			require.NoError(t, m.mayWrite(t.Context(), 1, 7))
			require.Equal(t, codes.PermissionDenied, codeOf(m.mayWrite(t.Context(), 3, 7)))
			time.Sleep(storedWait)
		}
		promoted := change(events.MemberRole, 7, 3, 0)
		promoted.By, promoted.Role = 1, events.RoleAdmin
		st.set(func(s *oneGroup) { s.admin = 3 }, promoted)
		time.Sleep(lease)
		require.NoError(t, m.mayWrite(t.Context(), 3, 7))
		require.Equal(t, codes.PermissionDenied, codeOf(m.mayWrite(t.Context(), 2, 7)))
	})
}

func TestMuteThatIsSeenBeforeItIsStoredIsNotForgotten(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		until := time.Now().Add(time.Hour)
		st.set(func(*oneGroup) {}, muted(2, until))
		for range 5 {
			time.Sleep(storedWait / 10)
			require.NoError(t, m.mayWrite(t.Context(), 2, 7), "by the store it still may")
			m.load(2, &store.Group{ID: 7})
		}
		st.set(func(s *oneGroup) { s.mutes = map[int64]int64{2: until.Unix()} })
		for range 20 {
			require.Equal(t, codes.PermissionDenied, codeOf(m.mayWrite(t.Context(), 2, 7)))
			time.Sleep(rosterLife / 5)
		}
	})
}

func TestWhoIsMutedStaysSoWhileTheStoreIsDown(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		until := time.Now().Add(2 * time.Hour)
		st.set(func(s *oneGroup) { s.mutes = map[int64]int64{2: until.Unix()} })
		settled(t, st, m)
		st.set(func(s *oneGroup) { s.err = errDown })
		time.Sleep(time.Hour)
		require.NoError(t, m.mayWrite(t.Context(), 1, 7))
		require.Equal(t, codes.PermissionDenied, codeOf(m.mayWrite(t.Context(), 2, 7)))
	})
}

// A verb that has answered holds on every node. One that has seen the change and cannot ask the store may not go by what was before.
func TestChangeThatWasSeenIsNotJudgedByAnOlderRosterWhileTheStoreIsDown(t *testing.T) {
	forever := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	promoted := change(events.MemberRole, 7, 2, 0)
	promoted.By, promoted.Role = 1, events.RoleAdmin
	mutes := func(user int64, until time.Time) map[int64]int64 { return map[int64]int64{user: until.Unix()} }
	for name, test := range map[string]struct {
		mutes  map[int64]int64 // before the change
		change events.Event
		other  codes.Code // of another member
	}{
		"mute":               {change: muted(2, forever)},
		"end of a mute":      {mutes: mutes(2, forever), change: muted(2, time.Unix(0, 0))},
		"mute of all":        {change: muted(0, forever), other: codes.Unavailable},
		"end of that":        {mutes: mutes(0, forever), change: muted(0, time.Unix(0, 0)), other: codes.Unavailable},
		"role while all are": {mutes: mutes(0, forever), change: promoted, other: codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
				st.set(func(s *oneGroup) { s.users, s.mutes = []int64{1, 2, 3}, test.mutes })
				settled(t, st, m)
				st.set(func(s *oneGroup) { s.err = errDown }, test.change)
				time.Sleep(lease)
				for range 3 {
					require.Equal(t, codes.Unavailable, codeOf(m.mayWrite(t.Context(), 2, 7)))
					require.Equal(t, test.other, codeOf(m.mayWrite(t.Context(), 3, 7)))
					time.Sleep(storedWait)
				}
			})
		})
	}
}

// The call that has made the change ended without an answer and without telling the nodes, and the groups handler is down. Who
// repeats it is answered once no node goes by what was before.
func TestRepeatOfAChangeThatNoNodeWasToldOfTellsThem(t *testing.T) {
	t.Parallel()
	n, other := twoNodes(t, true)
	id := n.group(t, 2).GetGroupId()
	eventually(t, func() bool {
		err := other.members.mayWrite(t.Context(), 2, id)
		r, since := other.members.roster(id)
		return err == nil && r.vouchesFor(2, since)
	})
	key, until := "m", time.Now().Add(time.Hour).Unix()
	mute := &events.Event{
		Type: events.MemberMuted, Conversation: events.Group(id), GroupID: id, User: 2, By: 1, Until: &until, Timestamp: 1,
		EventID: events.EventID(events.MemberMuted, strconv.FormatInt(id, 10), "2", "1", key),
	}
	at := n.publish(t, *mute)[0]
	require.NoError(t, n.service.waitStored(t.Context(), map[int32]int64{at.Partition: at.Seq}, storedWait))
	require.NoError(t, other.members.mayWrite(t.Context(), 2, id), "it was told nothing")

	// A client_msg_id names one change, even if the repeat is not the same.
	repeat := &millracev1.MuteMemberRequest{Sender: by(1), GroupId: id, User: 2, Until: 0, ClientMsgId: key}
	_, err := n.MuteMember(t.Context(), repeat)
	require.NoError(t, err)
	require.Equal(t, codes.PermissionDenied, codeOf(other.members.mayWrite(t.Context(), 2, id)))
	copies, made := changesOn(t, n, events.TopicGroups), changesOn(t, n, events.TopicMessages)
	require.Equal(t, mute.EventID, copies[len(copies)-1].EventID)
	require.Equal(t, made[len(made)-1], copies[len(copies)-1])
}
