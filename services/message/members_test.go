package message

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
)

// oneGroup is a store of one group and the topic with its changes, in a synctest bubble.
type oneGroup struct {
	Store
	pubsub.Log
	mu    sync.Mutex
	users []int64
	mutes map[int64]int64
	admin int64 // 0: there is none
	err   error
	takes time.Duration

	rosters, stays int // how often they were read
	ends           int
	copies         []events.Event
	silent         bool // the topic does not respond
	trimmed        bool
}

func (s *oneGroup) wait(ctx context.Context) error {
	s.mu.Lock()
	err, takes := s.err, s.takes
	s.mu.Unlock()
	sleep(ctx, takes)
	return errors.Join(ctx.Err(), err)
}

func (s *oneGroup) Members(ctx context.Context, _ int64) ([]int64, error) {
	users := s.now(&s.rosters)
	return users, s.wait(ctx)
}

func (s *oneGroup) Group(_ context.Context, group int64) (store.Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Group{ID: group, Grants: append(store.Founded(1), store.Grant{Seq: 2, User: s.admin, Role: events.RoleAdmin}), Mutes: s.mutes}, s.err
}

func (s *oneGroup) Stays(ctx context.Context, user, group int64) ([]store.Membership, error) {
	users := s.now(&s.stays)
	if err := s.wait(ctx); err != nil || !slices.Contains(users, user) {
		return nil, err
	}
	return []store.Membership{{GroupID: group, User: user, Joined: 1}}, nil
}

func (s *oneGroup) now(count *int) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	*count++
	return slices.Clone(s.users)
}

func (s *oneGroup) End(ctx context.Context) (map[int32]int64, error) {
	s.mu.Lock()
	s.ends++
	end, silent := int64(len(s.copies)), s.silent
	s.mu.Unlock()
	if silent {
		<-ctx.Done()
	}
	return map[int32]int64{0: end}, ctx.Err()
}

func (s *oneGroup) Read(_ context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trimmed {
		return pubsub.ErrTrimmed
	}
	for _, r := range ranges {
		for seq := r.After + 1; seq <= r.Through; seq++ {
			value, err := json.Marshal(&s.copies[seq-1])
			if err != nil {
				return err
			}
			if err := visit(pubsub.RawRecord{Position: events.Position{Seq: seq}, Value: value}); err != nil {
				return err
			}
		}
	}
	return nil
}

// set changes the store, and copies the events to the topic.
func (s *oneGroup) set(change func(*oneGroup), copies ...events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	s.copies = append(s.copies, copies...)
}

func withMembers(t *testing.T, test func(t *testing.T, st *oneGroup, m *members)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		background := newTasks()
		defer background.close()
		st := &oneGroup{users: []int64{1, 2}}
		m, err := newMembers(st, st, background, func(context.Context, string) error { return nil })
		require.NoError(t, err)
		test(t, st, m)
	})
}

// settled checks the member until its roster vouches for it, and returns how often the store was asked until then.
func settled(t *testing.T, st *oneGroup, m *members) (rosters, stays int) {
	t.Helper()
	for range 4 {
		require.NoError(t, m.check(t.Context(), 1, 7))
		synctest.Wait()
		time.Sleep(storedWait)
	}
	require.NoError(t, m.check(t.Context(), 1, 7))
	return st.rosters, st.stays
}

func left(user int64) events.Event {
	return change(events.MemberLeft, 7, user, 0)
}

func TestActiveGroupIsReadOnceARosterLifeAndNoSendWaitsForIt(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		rosters, stays := settled(t, st, m)
		st.set(func(s *oneGroup) { s.takes = rosterTimeout / 2 })
		const lives = 4
		for range lives * int(rosterLife/(10*time.Millisecond)) {
			began := time.Now()
			require.NoError(t, m.check(t.Context(), 1, 7))
			require.NoError(t, m.check(t.Context(), 2, 7))
			require.Zero(t, time.Since(began))
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, st.rosters-rosters, 2*lives+1)
		require.Equal(t, stays, st.stays)
	})
}

func TestGroupThatNobodyWritesToCostsNothing(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		rosters, _ := settled(t, st, m)
		ends := st.ends
		time.Sleep(time.Hour)
		require.Equal(t, rosters, st.rosters)
		require.Equal(t, ends, st.ends)
	})
}

func TestChangeOnAnotherNodeIsSeenWithinALease(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		require.NoError(t, m.check(t.Context(), 2, 7))
		st.set(func(s *oneGroup) { s.users = []int64{1, 3} }, left(2), change(events.MemberJoined, 7, 3, 0))
		for began := time.Now(); time.Since(began) < lease; time.Sleep(lease / 10) {
			require.NoError(t, m.check(t.Context(), 1, 7)) // the others go on
		}
		synctest.Wait()
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
		require.NoError(t, m.check(t.Context(), 3, 7))
	})
}

func TestRosterIsNotReadFromAStoreThatMayLackWhatTheLogHadAtFirst(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		st.set(func(*oneGroup) {}, left(2)) // published, not stored yet
		for began := time.Now(); time.Since(began) < storedWait-lease; time.Sleep(lease / 10) {
			require.NoError(t, m.check(t.Context(), 2, 7))
		}
		st.set(func(s *oneGroup) { s.users = []int64{1} })
		for range 50 {
			require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
			time.Sleep(lease / 2)
		}
	})
}

// The copy is published before the store has the change.
func TestChangeThatIsSeenBeforeItIsStoredIsNotForgotten(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		st.set(func(*oneGroup) {}, left(2))
		time.Sleep(lease)
		for range 5 {
			require.NoError(t, m.check(t.Context(), 2, 7), "by the store it still is a member")
			m.load(2, &store.Group{ID: 7})
			time.Sleep(storedWait / 10)
		}
		st.set(func(s *oneGroup) { s.users = []int64{1} })
		for range 20 {
			require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
			require.NoError(t, m.check(t.Context(), 1, 7))
			time.Sleep(rosterLife / 5)
		}
	})
}

func TestNobodyWritesToADissolvedGroup(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		st.set(func(s *oneGroup) { s.users = nil }, change(events.GroupDissolved, 7, 1, 0))
		time.Sleep(lease)
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 1, 7)))
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
	})
}

func TestChangeThatNobodyCopiedIsSeenWithinARosterLife(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		st.set(func(s *oneGroup) { s.users = []int64{1} })
		time.Sleep(rosterLife)
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
	})
}

func TestRostersAreForgottenWhereChangesMayHaveBeenMissed(t *testing.T) {
	for name, fault := range map[string]func(*oneGroup){
		"the log has lost them": func(s *oneGroup) { s.copies, s.trimmed = append(s.copies, left(2)), true },
		"too many to be read": func(s *oneGroup) {
			s.copies = append(s.copies, slices.Repeat([]events.Event{left(5)}, maxFollowed+1)...)
		},
		"the topic was made anew":   func(s *oneGroup) { s.copies = nil },
		"the topic does not answer": func(s *oneGroup) { s.silent = true },
	} {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
				st.set(func(*oneGroup) {}, left(4))
				settled(t, st, m)
				st.set(fault)
				st.set(func(s *oneGroup) { s.users = []int64{1} })
				if name != "the topic was made anew" && name != "the topic does not answer" {
					st.set(func(*oneGroup) {}, left(2))
				}
				time.Sleep(lease)
				require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
				require.NoError(t, m.check(t.Context(), 1, 7))
			})
		})
	}
}

func TestNewMemberIsNotRefusedByAnOldReading(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 3, 7)))
		st.set(func(s *oneGroup) { s.users = []int64{1, 2, 3} }) // by another node
		require.NoError(t, m.check(t.Context(), 3, 7))
	})
}

func TestStrangersAreNotRemembered(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		for group := range int64(1000) {
			require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 3, group+1)))
		}
		require.Zero(t, st.rosters)
		require.Zero(t, m.rosters.Len())
	})
}

func TestRostersAreBoundedByTheirUsers(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		st.set(func(s *oneGroup) {
			s.users = make([]int64, maxRosterUsers/4)
			for i := range s.users {
				s.users[i] = int64(i + 1)
			}
		})
		for group := range int64(10) {
			require.NoError(t, m.check(t.Context(), 1, group+1))
			synctest.Wait()
		}
		require.Equal(t, 4, m.rosters.Len())
		require.Equal(t, maxRosterUsers, m.users)
	})
}

func TestMembershipGoesOnServingWhileTheStoreIsDown(t *testing.T) {
	for name, fault := range map[string]func(*oneGroup){
		"failing": func(s *oneGroup) { s.err = errDown },
		"slow":    func(s *oneGroup) { s.takes = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
				settled(t, st, m)
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

// While neither says what has changed, a member may have left.
func TestNobodyKnowsWhoIsAMemberWhileStoreAndLogAreDown(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		st.set(func(s *oneGroup) { s.err, s.silent = errDown, true })
		time.Sleep(time.Hour)
		began := time.Now()
		for range 100 {
			require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 1, 7)))
		}
		require.LessOrEqual(t, time.Since(began), staleWait, "nobody waits again so soon")
		st.set(func(s *oneGroup) { s.silent = false }, left(2))
		time.Sleep(followTimeout + storePause)
		require.NoError(t, m.check(t.Context(), 1, 7), "the log tells")
		require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 2, 7)), "that it has changed")
	})
}

func TestStoreThatIsLostRightAfterAMemberWasFirstAdmittedIsNotMissed(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		require.NoError(t, m.check(t.Context(), 1, 7))
		st.set(func(s *oneGroup) { s.err = errDown })
		for range 10 {
			require.NoError(t, m.check(t.Context(), 1, 7))
			require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 2, 7)))
			time.Sleep(rosterLife)
		}
	})
}

func TestWhoHasLeftStaysOutHoweverLongTheStoreIsDown(t *testing.T) {
	withMembers(t, func(t *testing.T, st *oneGroup, m *members) {
		settled(t, st, m)
		st.set(func(s *oneGroup) { s.users = []int64{1} }, left(2))
		time.Sleep(lease)
		require.Equal(t, codes.NotFound, codeOf(m.check(t.Context(), 2, 7)))
		st.set(func(s *oneGroup) { s.err = errDown })
		for range 10 {
			time.Sleep(rosterLife)
			require.NoError(t, m.check(t.Context(), 1, 7))
			require.Equal(t, codes.Unavailable, codeOf(m.check(t.Context(), 2, 7)))
		}
	})
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
