package webhook

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var errFault = errors.New("fault")

func quiet() *gate {
	return newGate("crm", func(context.Context) (bool, error) { return false, nil })
}

func TestGateLetsThroughUntilManyRequestsInARowHaveFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := quiet()
		for range 3 {
			for range tolerance - 1 {
				require.Zero(t, g.failed(errFault, 0))
				require.NoError(t, g.enter(t.Context(), time.Second))
			}
			g.succeeded()
			require.NoError(t, g.ready())
		}
		for range tolerance - 1 {
			g.failed(errFault, 0)
		}
		require.Positive(t, g.failed(errFault, 0))
		require.Zero(t, g.failed(errFault, 0), "this one had begun before")
		require.ErrorIs(t, g.ready(), errFault)
	})
}

func TestGatePausesGrowAndOneRequestTriesAfterEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := quiet()
		for range tolerance {
			g.failed(errFault, 0)
		}
		longest := firstPause
		for range 10 {
			began := time.Now()
			for err := ErrHeld; err != nil; err = g.enter(t.Context(), time.Second) {
				require.ErrorIs(t, err, context.Canceled)
			}
			require.GreaterOrEqual(t, time.Since(began), longest/2-hold)
			require.LessOrEqual(t, time.Since(began), longest)
			opens, _ := g.try(time.Second)
			require.Equal(t, time.Second, time.Until(opens), "others wait for the outcome")
			longest = min(2*longest, longestPause)
			require.InDelta(t, 0.75*longest.Seconds(), g.failed(errFault, 0).Seconds(), 0.26*longest.Seconds())
		}
		time.Sleep(longestPause)
		waits := make(chan error)
		require.NoError(t, g.enter(t.Context(), time.Second))
		go func() { waits <- g.enter(t.Context(), time.Second) }()
		synctest.Wait()
		require.True(t, g.succeeded())
		require.NoError(t, <-waits)
		require.False(t, g.succeeded())
	})
}

func TestGateHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := quiet()
		require.Equal(t, 30*time.Second, g.failed(errFault, 30*time.Second))
		time.Sleep(29*time.Second - hold)
		require.ErrorIs(t, g.enter(t.Context(), time.Second), context.Canceled)
		require.NoError(t, g.enter(t.Context(), time.Second))
		require.Equal(t, longestWish, g.failed(errFault, 1000*time.Hour))
	})
}

func TestGateKeepsNobodyLongerThanItsContextHasTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := quiet()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.NoError(t, g.enter(ctx, 3*time.Second))
		require.ErrorIs(t, g.enter(ctx, 3*time.Second+1), ErrHeld, "the request would not have its time")
		g.failed(errFault, time.Minute)
		begin := time.Now()
		require.ErrorIs(t, g.enter(ctx, 2*time.Second), ErrHeld)
		require.LessOrEqual(t, time.Since(begin), time.Second+time.Millisecond)
		cancel()
		require.ErrorIs(t, g.enter(ctx, 0), ErrHeld)
	})
}

func TestGateGoesByWhatItKnowsWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, err := false, error(nil)
		g := newGate("crm", func(context.Context) (bool, error) { return gone, err })
		require.NoError(t, g.enter(t.Context(), time.Second))
		gone = true
		require.NoError(t, g.enter(t.Context(), time.Second), "the store is asked from time to time")
		time.Sleep(lookAgain)
		require.ErrorIs(t, g.enter(t.Context(), time.Second), ErrHeld)
		gone, err = false, errFault
		time.Sleep(lookAgain)
		require.ErrorIs(t, g.enter(t.Context(), time.Second), ErrHeld)
		require.ErrorContains(t, g.ready(), "410 Gone")
		err = nil
		time.Sleep(lookAgain)
		require.NoError(t, g.enter(t.Context(), time.Second))
		require.NoError(t, g.ready())
	})
}
