package proof

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

// announced is the time between two notices.
const announced = 300 * time.Millisecond

// announcements are the notices that an operator sends to a crowd, and what its talkers get of them. A talker that loses its
// connection just then may miss one, and so may a gateway that a node could not reach before it died. But a talker gets only
// what is for it, and nothing twice, and once everything works a notice reaches everybody.
type announcements struct {
	crowd    *Crowd
	operator *operators

	mu   sync.Mutex
	sent int
	got  map[string]map[int64]int // by notice and talker
	some map[string]bool          // notices that are for the first talker alone
}

// announce sends notices until the traffic ends: in turn to everybody and to the first talker.
func announce(ctx context.Context, c *Crowd, o *operators, until <-chan struct{}) *announcements {
	a := &announcements{crowd: c, operator: o, got: map[string]map[int64]int{}, some: map[string]bool{}}
	for _, k := range c.Talkers {
		k.noticed.Store(new(func(id string) { a.note(id, k.ID) }))
	}
	c.speaking.Go(func() error {
		for i := 0; ; i++ {
			select {
			case <-until:
				return nil
			case <-time.After(announced):
			}
			var to []int64
			if i%2 == 1 {
				to = []int64{c.Talkers[0].ID}
			}
			if _, err := a.send(ctx, to...); err != nil {
				return err
			}
		}
	})
	return a
}

// send sends a notice to the users, or to everybody, and returns its id. It repeats the call until a node accepts it.
func (a *announcements) send(ctx context.Context, users ...int64) (id string, err error) {
	a.mu.Lock()
	a.sent++
	id = fmt.Sprintf("notice %d", a.sent)
	a.some[id] = len(users) > 0
	a.mu.Unlock()
	for i := 0; ; i++ {
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err = a.operator.nodes[i%len(a.operator.nodes)].SendNotice(call, &millracev1.SendNoticeRequest{NoticeId: id, Content: id, Users: users})
		cancel()
		if err == nil || ctx.Err() != nil {
			return id, err
		}
		Wait(ctx, sendEvery)
	}
}

func (a *announcements) note(id string, talker int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.got[id] == nil {
		a.got[id] = map[int64]int{}
	}
	a.got[id][talker]++
}

// judge requires that a notice reaches everybody now, and that nobody got any twice or one that was not for it.
func (a *announcements) judge(ctx context.Context) {
	t := a.crowd.t
	t.Helper()
	reaches := func(id string) bool {
		for begin := time.Now(); time.Since(begin) < 5*time.Second && ctx.Err() == nil; Wait(ctx, sendEvery/10) {
			a.mu.Lock()
			n := len(a.got[id])
			a.mu.Unlock()
			if n == len(a.crowd.Talkers) {
				return true
			}
		}
		return false
	}
	begin := time.Now()
	Await(t, func() bool {
		require.Less(t, time.Since(begin), Healing, "no notice reaches everybody")
		id, err := a.send(ctx)
		require.NoError(t, err)
		return reaches(id)
	}, "a notice reaches everybody")
	a.mu.Lock()
	defer a.mu.Unlock()
	all, seen := 0, 0
	for id, some := range a.some {
		want := len(a.crowd.Talkers)
		if some {
			want = 1
		}
		all, seen = all+want, seen+len(a.got[id])
		for talker, times := range a.got[id] {
			require.Equal(t, 1, times, "user %d got %s", talker, id)
			require.True(t, !some || talker == a.crowd.Talkers[0].ID, "user %d got %s, which was for another", talker, id)
		}
	}
	for id := range a.got {
		require.Contains(t, a.some, id)
	}
	require.Greater(t, a.sent, 20)
	t.Logf("of %d notices talkers got %d of %d", a.sent, seen, all)
}
