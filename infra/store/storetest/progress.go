package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func progressTests() []test {
	advance := func(t *testing.T, s Store, handler string, partition int32, seq int64) {
		t.Helper()
		require.NoError(t, s.AdvanceProgress(t.Context(), handler, events.Position{Partition: partition, Seq: seq}))
	}
	requireProgress := func(t *testing.T, s Store, handler string, want map[int32]int64) {
		t.Helper()
		got, err := s.Progress(t.Context(), handler)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	return []test{
		{"no handler has come anywhere at first", func(t *testing.T, s Store) {
			requireProgress(t, s, "users", map[int32]int64{})
		}},
		{"progress is the highest position of each partition and never goes back", func(t *testing.T, s Store) {
			advance(t, s, "users", 3, 10)
			advance(t, s, "users", 0, 1<<40+7)
			advance(t, s, "users", 3, 12)
			advance(t, s, "users", 3, 11)
			requireProgress(t, s, "users", map[int32]int64{0: 1<<40 + 7, 3: 12})
		}},
		{"each handler has its own, apart from the stored positions", func(t *testing.T, s Store) {
			advance(t, s, "analytics", 3, 10)
			advance(t, s, "analytics-v2", 3, 5)
			requireProgress(t, s, "analytics", map[int32]int64{3: 10})
			requireProgress(t, s, "analytics-v2", map[int32]int64{3: 5})
			requireProgress(t, s, "users", map[int32]int64{})
			requireStored(t, s, map[int32]int64{})
		}},
	}
}
