package analytics

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// calls is a [Store] that notes when it is called.
type calls struct {
	counted []time.Time
	dropped []time.Time
	err     error
}

func (c *calls) CountMessages(_ context.Context, series string, _ []events.Record, now time.Time) error {
	if series == "analytics-v2" {
		c.counted = append(c.counted, now)
	}
	return c.err
}

func (c *calls) DropBuckets(_ context.Context, series string, now time.Time) error {
	if series == "analytics-v2" {
		c.dropped = append(c.dropped, now)
	}
	return nil
}

func TestOldBucketsAreDroppedFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store calls
		h := New(Config{Series: "analytics-v2"}, &store).Handler()
		begin := time.Now()
		for range 60 {
			require.NoError(t, h.Handle(t.Context(), events.Record{}))
			time.Sleep(time.Minute)
		}
		require.Len(t, store.counted, 60)
		require.Len(t, store.dropped, 6)
		require.Equal(t, begin.Add(dropInterval), store.dropped[1])
	})
}

func TestStoreThatFailsFailsTheWholeBatch(t *testing.T) {
	store := calls{err: errors.New("the store is down")}
	h := New(Config{Series: "analytics-v2"}, &store).Handler()
	require.Equal(t, []error{store.err, store.err}, h.HandleBatch(t.Context(), make([]events.Record, 2)))
	require.Empty(t, store.dropped)
}
