package message

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

// oneGroup is a store of one group, for time that stands still.
type oneGroup struct {
	Store
	mu    sync.Mutex
	users []int64
	err   error
	takes time.Duration
	reads int
}

func (s *oneGroup) Members(ctx context.Context, _ int64) ([]int64, error) {
	s.mu.Lock()
	s.reads++
	users, err, takes := s.users, s.err, s.takes
	s.mu.Unlock()
	sleep(ctx, takes)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return users, err
}

func (s *oneGroup) set(change func(*oneGroup)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func withMembers(t *testing.T, test func(t *testing.T, st *oneGroup, m *members)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		background := newTasks()
		defer background.close()
		st := &oneGroup{users: []int64{1, 2}}
		m, err := newMembers(st, background)
		require.NoError(t, err)
		test(t, st, m)
	})
}

func TestMembershipIsReadOnceALease(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		for range 100 {
			require.NoError(t, m.check(t.Context(), 1, 7))
			require.NoError(t, m.check(t.Context(), 2, 7))
		}
		require.Equal(t, 1, st.reads)
		time.Sleep(lease)
		require.NoError(t, m.check(t.Context(), 1, 7))
		require.Equal(t, 2, st.reads)
	})
}

func TestFormerMemberIsRefusedALeaseAfterTheChange(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		require.NoError(t, m.check(t.Context(), 2, 7))
		st.set(func(s *oneGroup) { s.users = []int64{1} })
		time.Sleep(lease - time.Nanosecond)
		require.NoError(t, m.check(t.Context(), 2, 7), "within the lease nobody asks")
		time.Sleep(time.Nanosecond)
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
	})
}

func TestVoidEndsTheLease(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		require.NoError(t, m.check(t.Context(), 2, 7))
		time.Sleep(time.Nanosecond)
		st.set(func(s *oneGroup) { s.users = []int64{1} })
		m.void(7)
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
	})
}

func TestNewMemberIsNotRefusedByAnOldReading(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 3, 7)))
		st.set(func(s *oneGroup) { s.users = []int64{1, 2, 3} }) // by another node
		require.NoError(t, m.check(t.Context(), 3, 7))
	})
}

func TestStrangersDoNotMakeTheStoreReadWithoutEnd(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		var strangers sync.WaitGroup
		for range 1000 {
			strangers.Go(func() {
				require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 3, 7)))
			})
		}
		strangers.Wait()
		require.LessOrEqual(t, st.reads, 2)
		began := time.Now()
		for range 10 {
			require.Error(t, m.check(t.Context(), 3, 7))
		}
		require.GreaterOrEqual(t, time.Since(began), 10*rosterPause)
	})
}

func TestMembershipGoesOnServingWhileTheStoreIsDown(t *testing.T) {
	for name, fault := range map[string]func(*oneGroup){
		"failing": func(s *oneGroup) { s.err = errDown },
		"slow":    func(s *oneGroup) { s.takes = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
				require.NoError(t, m.check(t.Context(), 1, 7))
				st.set(fault)
				time.Sleep(time.Hour)

				began := time.Now()
				require.NoError(t, m.check(t.Context(), 1, 7))
				require.LessOrEqual(t, time.Since(began), staleWait)

				began = time.Now()
				for range 100 {
					require.NoError(t, m.check(t.Context(), 1, 7))
				}
				require.Zero(t, time.Since(began), "nobody waits again so soon")
				require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 3, 7)), "the unknown are not refused for good")

				st.set(func(s *oneGroup) { s.err, s.takes, s.users = nil, 0, []int64{1, 3} })
				time.Sleep(rosterTimeout + storePause)
				require.NoError(t, m.check(t.Context(), 3, 7))
				require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
			})
		})
	}
}

func TestUnknownMembershipIsUnavailableWhileTheStoreIsDown(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		st.set(func(s *oneGroup) { s.takes = time.Hour })
		began := time.Now()
		require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 1, 7)))
		require.Equal(t, missWait, time.Since(began))
		require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 1, 7)))
		require.Equal(t, missWait, time.Since(began), "nobody waits again so soon")
	})
}
