package connect

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

// crowdedHub returns a hub with so many live sessions, each of another user, that has delivered 64 partitions up to 1.
func crowdedHub(tb testing.TB, sessions int) *hub {
	h := newHub(tb.Context(), Config{}.withDefaults(), nil, newMetrics(nil, nil), slog.New(slog.DiscardHandler))
	for user := range int64(sessions) {
		sub := &subscriber{session: &session{}, user: user + 1}
		h.join(sub, nil)
		sub.buffering = false
	}
	for id := range int32(64) {
		p := h.partition(id)
		p.known, p.covered = true, 1
	}
	return h
}

// Everybody waits for the hub's lock, so the work under it when a gap is given up must not depend on the number of sessions.
func TestGivingUpAGapTakesNoMoreForMoreSessions(t *testing.T) {
	allocations := func(sessions int) float64 {
		h := crowdedHub(t, sessions)
		h.skipping = true // nobody goes through the sessions meanwhile
		through := int64(1)
		return testing.AllocsPerRun(10, func() {
			through++
			h.jump(h.partition(3), through)
		})
	}
	require.InDelta(t, allocations(10), allocations(5000), 3)
}

// Sessions leave, join and get deliveries while others were not told of the skip yet. All that were there are told.
func TestEverySessionIsToldOfASkip(t *testing.T) {
	h := crowdedHub(t, 1000)
	h.skipping = true
	before := make([]*subscriber, len(h.sessions))
	copy(before, h.sessions)
	h.jump(h.partition(3), 10)
	d := &millracev1.Delivery{Seq: 11, Channels: []string{"u:1"}, Push: []byte("later")}
	h.span(nil, &millracev1.Span{Partition: 3, After: 10, Through: 11, Deliveries: []*millracev1.Delivery{d}})
	require.Equal(t, map[int32]int64{3: 10}, before[0].skipped, "before it is delivered to")
	require.Len(t, before[0].buffer, 1)
	for i := 1; i < 1000; i += 7 {
		h.leave(before[i])
	}
	joined := &subscriber{session: &session{}, user: 5000}
	h.join(joined, nil)
	h.jump(h.partition(4), 20)
	h.seeToSkips(h.ctx)
	require.Empty(t, h.skips)
	require.Equal(t, map[int32]int64{4: 20}, joined.skipped, "the first was before its time")
	for i, sub := range before {
		if i > 0 && i%7 == 1 {
			continue
		}
		require.Equal(t, map[int32]int64{3: 10, 4: 20}, sub.skipped)
		require.True(t, sub.buffering)
		require.Equal(t, int64(1), sub.resumeFrom[3])
		require.Equal(t, int64(1), sub.resumeFrom[4])
	}
}

// BenchmarkGiveUpAGap measures how long the hub's lock is held when a gap is given up.
func BenchmarkGiveUpAGap(b *testing.B) {
	for _, sessions := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(sessions, " sessions"), func(b *testing.B) {
			h := crowdedHub(b, sessions)
			through := int64(1)
			for b.Loop() {
				b.StopTimer()
				h.wg.Wait()
				for _, c := range h.channels {
					for sub := range c.subs {
						sub.buffering, sub.skipped, sub.resumeFrom = false, nil, nil
					}
				}
				through++
				b.StartTimer()
				h.jump(h.partition(3), through)
			}
			h.wg.Wait()
		})
	}
}
