package cluster

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

func TestEachBatchIsGivenUpAtItsDeadlineUnlessItWasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUplink(&Node{}, nil, slog.New(slog.DiscardHandler))
		u.up = true
		begin := time.Now()
		ended := make(chan time.Duration, 10)
		for _, after := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second, time.Second + time.Millisecond} {
			require.True(t, u.add(&SendBatch{
				Changes: []*millracev1.Change{{}}, Deadline: begin.Add(after),
				Done: func(_ []*millracev1.SendResult, err error) {
					require.ErrorIs(t, err, errUnknown)
					ended <- time.Since(begin) - after
				},
			}))
		}
		require.NotNil(t, u.takeAnswered(3))
		for range 3 {
			late := <-ended
			require.GreaterOrEqual(t, late, time.Duration(0))
			require.LessOrEqual(t, late, expiryGrain)
		}
		synctest.Wait()
		require.Empty(t, ended)
		require.Empty(t, u.unanswered)
		require.True(t, u.expires.IsZero(), "no timer runs while there is nothing to expire")
	})
}
