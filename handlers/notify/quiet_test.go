package notify

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuietHoursAreThoseOfTheirZone(t *testing.T) {
	at := func(clock string) time.Time {
		parsed, err := time.Parse("15:04", clock)
		require.NoError(t, err)
		return parsed.AddDate(2026, 0, 0)
	}
	for hours, quiet := range map[string]map[string]bool{
		"":                  {"00:00": false, "12:00": false},
		"12:00-13:00Z":      {"11:59": false, "12:00": true, "12:59": true, "13:00": false},
		"22:00-07:00Z":      {"21:59": false, "22:00": true, "00:00": true, "06:59": true, "07:00": false},
		"22:00-07:00+02:00": {"19:59": false, "20:00": true, "04:59": true, "05:00": false},
		"22:00-07:00-05:30": {"03:29": false, "03:30": true, "12:29": true, "12:30": false},
	} {
		q, err := ParseQuiet(hours)
		require.NoError(t, err)
		for clock, want := range quiet {
			require.Equal(t, want, q.At(at(clock)), "%s at %s", hours, clock)
		}
	}
	for _, bad := range []string{"22-7", "22:00-07:00", "24:00-07:00Z", "22:00-29:59Z", "22:00-07:00+29:00", "22:00-07:00 +02:00", "07:00-07:00Z", "22:00-07:00ZZ"} {
		_, err := ParseQuiet(bad)
		require.Error(t, err, bad)
	}
}

func FuzzQuiet(f *testing.F) {
	for _, seed := range []string{"22:00-07:00+02:00", "12:00-13:00Z", "", "24:00-07:00Z"} {
		f.Add(seed, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, hours string, at int64) {
		q, err := ParseQuiet(hours)
		if err != nil || hours == "" {
			require.False(t, q.At(time.Unix(at, 0)))
			return
		}
		now := time.Unix(at, 0)
		require.Equal(t, q.At(now), q.At(now.Add(24*time.Hour)), "every day is alike")
	})
}
