package message

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSharedReadingStartsAfterItWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		background := newTasks()
		defer background.close()
		starts := 0
		s := newShared(background, 0, time.Minute, func(context.Context) (int, error) {
			starts++
			began := starts
			time.Sleep(time.Second)
			return began, nil
		})
		var first, second, third sync.WaitGroup
		ask := func(wg *sync.WaitGroup, want int) {
			wg.Go(func() {
				got, err := s.get(t.Context())
				require.NoError(t, err)
				require.Equal(t, want, got)
			})
		}
		ask(&first, 1)
		synctest.Wait()
		for range 100 {
			ask(&second, 2) // the first reading began before these asked
		}
		first.Wait()
		synctest.Wait()
		ask(&third, 3)
		second.Wait()
		third.Wait()
		require.Equal(t, 3, starts)
	})
}

func TestSharedReadingsKeepTheirDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		background := newTasks()
		defer background.close()
		var starts []time.Time
		s := newShared(background, time.Second, time.Minute, func(context.Context) (int, error) {
			starts = append(starts, time.Now())
			return 0, nil
		})
		for range 3 {
			_, err := s.get(t.Context())
			require.NoError(t, err)
		}
		require.Len(t, starts, 3)
		require.Equal(t, time.Second, starts[1].Sub(starts[0]))
		require.Equal(t, time.Second, starts[2].Sub(starts[1]))
	})
}

func TestSharedReadingEndsForWhoeverGivesUpAndAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		background := newTasks()
		defer background.close()
		s := newShared(background, 0, time.Minute, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := s.get(impatient)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		_, err = s.get(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 2*time.Minute, time.Since(began), "the first reading, and then the one that was asked for")
	})
}

func TestSharedReadingFailsOnceClosed(t *testing.T) {
	background := newTasks()
	s := newShared(background, 0, time.Minute, func(context.Context) (int, error) { return 1, nil })
	background.close()
	_, err := s.get(t.Context())
	require.ErrorIs(t, err, errClosed)
}
