package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/infra/store"
)

func notificationTests() []test {
	begin := time.UnixMilli(started * 1000)
	after := func(seconds int64) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	noted := func(user, seq int64) store.Note {
		return store.Note{User: user, Conversation: aliceBob, MessageID: fmt.Sprint("m", seq), Seq: seq, From: alice, At: started + seq}
	}
	note := func(t *testing.T, s Store, due time.Time, notes ...store.Note) {
		t.Helper()
		require.NoError(t, s.NoteMessages(t.Context(), notes, due))
	}
	take := func(t *testing.T, s Store, now, until time.Time) []store.Notification {
		t.Helper()
		taken, err := s.TakeNotifications(t.Context(), now, until, 100)
		require.NoError(t, err)
		return taken
	}
	settle := func(t *testing.T, s Store, n store.Notification, told int, next time.Time, repeats ...store.Notification) {
		t.Helper()
		if told == 0 {
			n.Attempts++
		}
		require.NoError(t, s.SettleNotification(t.Context(), n, told, next, repeats))
	}
	// requireTaken requires that the notifications are due at the time, and no others.
	requireTaken := func(t *testing.T, s Store, now, until time.Time, want ...store.Notification) []store.Notification {
		t.Helper()
		got := take(t, s, now, until)
		require.Len(t, got, len(want))
		for i := range got {
			want[i].Due = until
			require.True(t, got[i].Due.Equal(until))
			got[i].Due = until
			require.Equal(t, want[i], got[i])
		}
		return got
	}
	to := func(target string, n store.Notification, due time.Time) store.Notification {
		n.Target, n.Due, n.Attempts = target, due, 1
		return n
	}
	return []test{
		{"messages are counted until the first one's time has come", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10), noted(bob, 11))
			note(t, s, after(40), noted(bob, 12), noted(carol, 12))
			require.Empty(t, take(t, s, after(29), after(60)))
			requireTaken(t, s, after(30), after(60), store.Notification{Note: noted(bob, 12), Count: 3})
			requireTaken(t, s, after(40), after(70), store.Notification{Note: noted(carol, 12), Count: 1})
		}},
		{"a message that is noted again counts once, also after it was told", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10), noted(bob, 10))
			note(t, s, after(50), noted(bob, 10), noted(bob, 11))
			n := requireTaken(t, s, after(30), after(60), store.Notification{Note: noted(bob, 11), Count: 2})[0]
			settle(t, s, n, n.Count, after(90))
			note(t, s, after(60), noted(bob, 10), noted(bob, 11))
			require.Empty(t, take(t, s, after(500), after(600)))
			note(t, s, after(60), noted(bob, 11), noted(bob, 12))
			requireTaken(t, s, after(60), after(600), store.Notification{Note: noted(bob, 12), Count: 1})
		}},
		{"a repeat of the last message counts no more", func(t *testing.T, s Store) {
			repeat := noted(bob, 13)
			repeat.MessageID = "m10"
			note(t, s, after(30), noted(bob, 10))
			note(t, s, after(40), repeat)
			note(t, s, after(40), noted(bob, 14), repeat)
			requireTaken(t, s, after(30), after(60), store.Notification{Note: noted(bob, 14), Count: 2})
		}},
		{"what was taken comes to nobody else until its time is over", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10))
			first := take(t, s, after(30), after(60))[0]
			require.Empty(t, take(t, s, after(59), after(80)))
			second := requireTaken(t, s, after(60), after(90), store.Notification{Note: noted(bob, 10), Count: 1})[0]
			settle(t, s, first, 1, after(200))
			requireTaken(t, s, after(90), after(120), store.Notification{Note: noted(bob, 10), Count: 1})
			_ = second
		}},
		{"what comes while others are told is told next", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10))
			n := take(t, s, after(30), after(60))[0]
			note(t, s, after(61), noted(bob, 11), noted(bob, 12))
			settle(t, s, n, n.Count, after(70))
			require.Empty(t, take(t, s, after(69), after(100)))
			requireTaken(t, s, after(70), after(100), store.Notification{Note: noted(bob, 12), Count: 2})
		}},
		{"the time of the latest message does not go back", func(t *testing.T, s Store) {
			early := noted(bob, 11)
			early.At = started
			note(t, s, after(30), noted(bob, 10))
			note(t, s, after(30), early)
			require.Equal(t, noted(bob, 10).At, take(t, s, after(30), after(60))[0].At)
		}},
		{"what failed is due again, and counts its attempts", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10))
			n := take(t, s, after(30), after(60))[0]
			settle(t, s, n, 0, after(45))
			n = requireTaken(t, s, after(45), after(80), store.Notification{Note: noted(bob, 10), Count: 1, Attempts: 1})[0]
			settle(t, s, n, 1, after(90))
			require.Empty(t, take(t, s, after(900), after(990)))
		}},
		{"a target that failed gets all it lacks, once", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10), noted(bob, 11))
			n := take(t, s, after(30), after(60))[0]
			settle(t, s, n, n.Count, after(90), to("browser", n, after(50)), to("endpoint", n, after(99)))
			note(t, s, after(40), noted(bob, 12))
			n = requireTaken(t, s, after(40), after(60), store.Notification{Note: noted(bob, 12), Count: 1})[0]
			settle(t, s, n, n.Count, after(90), to("browser", n, after(55)))
			n = requireTaken(t, s, after(55), after(85), store.Notification{Note: noted(bob, 12), Target: "browser", Count: 3, Attempts: 1})[0]
			settle(t, s, n, 0, after(95))
			n = requireTaken(t, s, after(95), after(98), store.Notification{Note: noted(bob, 12), Target: "browser", Count: 3, Attempts: 2})[0]
			settle(t, s, n, n.Count, after(200))
			n = requireTaken(t, s, after(99), after(300), store.Notification{Note: noted(bob, 11), Target: "endpoint", Count: 2, Attempts: 1})[0]
			settle(t, s, n, n.Count, after(400))
			require.Empty(t, take(t, s, after(900), after(990)))
		}},
		{"what a target lacks more meanwhile is not lost", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10))
			n := take(t, s, after(30), after(60))[0]
			settle(t, s, n, 1, after(90), to("browser", n, after(40)))
			browser := take(t, s, after(40), after(70))[0]
			note(t, s, after(40), noted(bob, 11))
			n = take(t, s, after(40), after(70))[0]
			settle(t, s, n, 1, after(90), to("browser", n, after(41)))
			settle(t, s, browser, 1, after(80))
			requireTaken(t, s, after(80), after(100), store.Notification{Note: noted(bob, 11), Target: "browser", Count: 1})
		}},
		{"a bounded number is taken, those that are due longest", func(t *testing.T, s Store) {
			for i := range int64(5) {
				note(t, s, after(30-i), noted(bob+i, 10))
			}
			taken, err := s.TakeNotifications(t.Context(), after(30), after(60), 2)
			require.NoError(t, err)
			require.Equal(t, []int64{bob + 4, bob + 3}, []int64{taken[0].User, taken[1].User})
			require.Len(t, take(t, s, after(30), after(60)), 3)
		}},
		{"what was told long ago is forgotten, what was not stays", func(t *testing.T, s Store) {
			note(t, s, after(30), noted(bob, 10))
			settle(t, s, take(t, s, after(30), after(60))[0], 1, after(60))
			note(t, s, after(30), noted(carol, 10))
			require.NoError(t, s.DropNotifications(t.Context(), time.Unix(started+10, 0)))
			note(t, s, after(30), noted(bob, 10))
			require.Equal(t, carol, take(t, s, after(30), after(60))[0].User)
			require.NoError(t, s.DropNotifications(t.Context(), time.Unix(started+11, 0)))
			note(t, s, after(30), noted(bob, 10))
			requireTaken(t, s, after(30), after(90), store.Notification{Note: noted(bob, 10), Count: 1})
			require.Equal(t, carol, take(t, s, after(60), after(90))[0].User)
		}},
	}
}

// RunTakers tests that of those who take notifications at once each gets others. It is for stores whose updates are atomic.
func RunTakers(t *testing.T, s Store) {
	now := time.Unix(started, 0)
	var notes []store.Note
	for i := range int64(20) {
		notes = append(notes, store.Note{User: bob + i, Conversation: aliceBob, MessageID: "m", Seq: 10, From: alice, At: started})
	}
	require.NoError(t, s.NoteMessages(t.Context(), notes, now))
	var mu sync.Mutex
	times := make(map[int64]int)
	var takers sync.WaitGroup
	for i := range 3 {
		takers.Go(func() {
			taken, err := s.TakeNotifications(t.Context(), now, now.Add(time.Duration(i+1)*time.Minute), 100)
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			for _, n := range taken {
				times[n.User]++
			}
		})
	}
	takers.Wait()
	require.Len(t, times, len(notes))
	for user, n := range times {
		require.Equal(t, 1, n, user)
	}
}
