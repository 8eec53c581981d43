package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/pubsub"
)

func TestStartIsATimeOffsetsOrTheOldestRecord(t *testing.T) {
	newYear := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for from, want := range map[string]pubsub.Start{
		"":                          {},
		"earliest":                  {},
		"2026-01-01T00:00Z":         {Time: newYear},
		"2026-01-01T00:00:00Z":      {Time: newYear},
		"2026-01-01T01:00:00+01:00": {Time: newYear},
		"3:17":                      {Offsets: map[int32]int64{3: 17}},
		"0:0,63:999999999999":       {Offsets: map[int32]int64{0: 0, 63: 999999999999}},
	} {
		got, err := parseStart(from)
		require.NoError(t, err, from)
		require.True(t, want.Time.Equal(got.Time), from)
		require.Equal(t, want.Offsets, got.Offsets, from)
	}
	ago, err := parseStart("24h")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(-24*time.Hour), ago.Time, time.Minute)
	for _, from := range []string{"yesterday", "-1h", "2026", "1", "1:", ":1", "1:2,", "1:-2", "1:2,1:3", "9999999999:1", "1:9999999999999999999"} {
		_, err := parseStart(from)
		require.ErrorContains(t, err, "--from="+from)
	}
}

func FuzzStart(f *testing.F) {
	for _, from := range []string{"earliest", "2026-01-01T00:00Z", "24h", "3:17,4:0"} {
		f.Add(from)
	}
	f.Fuzz(func(t *testing.T, from string) {
		start, err := parseStart(from)
		if err != nil {
			return
		}
		require.True(t, start.Time.IsZero() || start.Offsets == nil)
		for p, offset := range start.Offsets {
			require.GreaterOrEqual(t, p, int32(0))
			require.GreaterOrEqual(t, offset, int64(0))
		}
	})
}
