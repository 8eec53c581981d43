package message

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
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
