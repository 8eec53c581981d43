package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/router"
	"millrace/infra/router/markstest"
)

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// forgetful keeps nothing in memory, so that Redis is always asked.
type forgetful struct{}

func (forgetful) Marked(_ context.Context, ids ...string) []events.Position {
	return make([]events.Position, len(ids))
}

func (forgetful) Mark(context.Context, ...router.Mark) {}

func TestMarksInRedis(t *testing.T) {
	c := open(t, startServer(t), silent())
	handlers := 0
	markstest.Run(t, func(*testing.T) router.Marks {
		handlers++
		return c.Marks(fmt.Sprint("handler-", handlers), forgetful{})
	})
}

func TestMarksAreSharedByProcessesAndNotByHandlers(t *testing.T) {
	s := startServer(t)
	here, there := open(t, s, silent()), open(t, s, silent())
	at := events.Position{Partition: 1, Seq: 2}
	here.Marks("storage", router.NewMarks(10)).Mark(t.Context(), router.Mark{EventID: "a", At: at})
	require.Equal(t, []events.Position{at}, there.Marks("storage", router.NewMarks(10)).Marked(t.Context(), "a"))
	require.Equal(t, []events.Position{{}}, there.Marks("push", router.NewMarks(10)).Marked(t.Context(), "a"))
}

func TestWhatRedisDidNotTakeIsMarkedLater(t *testing.T) {
	s := startServer(t)
	here, there := open(t, s, silent()).Marks("storage", router.NewMarks(10)), open(t, s, silent()).Marks("storage", forgetful{})
	s.freeze(t)
	early, ids := make([]router.Mark, 3*markedAtOnce/2), make([]string, 3*markedAtOnce/2)
	for i := range early {
		ids[i] = fmt.Sprint(i)
		early[i] = router.Mark{EventID: ids[i], At: events.Position{Partition: 1, Seq: int64(i + 1)}}
	}
	here.Mark(t.Context(), early[:1]...)
	here.Mark(t.Context(), early[1:]...)
	clear(early) // a caller may use its slice again
	s.thaw(t)
	require.Eventually(t, func() bool {
		here.Mark(t.Context(), router.Mark{EventID: "later", At: events.Position{Partition: 1, Seq: 1}})
		for i, at := range there.Marked(t.Context(), ids...) {
			if at != (events.Position{Partition: 1, Seq: int64(i + 1)}) {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond)
}

func TestOfTooMuchThatRedisDidNotTakeTheLatestIsMarkedLater(t *testing.T) {
	s := startServer(t)
	marks := newMarks(open(t, s, silent()), "storage", forgetful{}, time.Now)
	s.kill()
	for i := range maxOwed + 10 {
		marks.Mark(t.Context(), router.Mark{EventID: fmt.Sprint(i), At: events.Position{Partition: 1, Seq: int64(i + 1)}})
	}
	require.Len(t, marks.owed, maxOwed/2+9)
	require.Equal(t, fmt.Sprint(maxOwed/2+1), marks.owed[0].EventID)
	require.Equal(t, fmt.Sprint(maxOwed+9), marks.owed[len(marks.owed)-1].EventID)
}

func TestMarkIsKnownForAnIntervalAtLeastAndForTwoAtMost(t *testing.T) {
	c := open(t, startServer(t), silent())
	begin := time.Now().Truncate(markInterval)
	now := begin
	marks := newMarks(c, "storage", forgetful{}, func() time.Time { return now })
	at := events.Position{Partition: 1, Seq: 2}
	for _, set := range []time.Duration{0, markInterval - time.Second} {
		now = begin.Add(set)
		marks.Mark(t.Context(), router.Mark{EventID: fmt.Sprint(set), At: at})
		for after, want := range map[time.Duration]events.Position{
			0: at, markInterval: at, 2*markInterval - time.Second: at, 2 * markInterval: {}, -markInterval: {},
		} {
			now = begin.Add(after)
			require.Equal(t, []events.Position{want}, marks.Marked(t.Context(), fmt.Sprint(set)), "%v", after)
		}
	}
	keys, err := c.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for _, key := range keys {
		left, err := c.redis.TTL(t.Context(), key).Result()
		require.NoError(t, err)
		require.Positive(t, left, "a mark must not stay for ever")
		require.LessOrEqual(t, left, 2*markInterval)
	}
}

// If two events shared a mark, a message would be lost.
func TestNoTwoEventsShareAMark(t *testing.T) {
	own := events.EventID(events.NewMessage, "own")
	bits, err := base64.RawURLEncoding.DecodeString(own)
	require.NoError(t, err)
	long := strings.Repeat("x", 100)
	sum := sha256.Sum256([]byte(long))
	ids := []string{
		own, string(bits), "=" + string(bits), own[:21] + "_", own + "A", "", "=", "#", long, long + "x", long[:60], long[:61],
		string(sum[:]), "#" + string(sum[:]), "=" + long[:59],
	}
	fields := make(map[string]string)
	for _, id := range ids {
		require.Empty(t, fields[markField(id)], "%q", id)
		require.LessOrEqual(t, len(markField(id)), 64, "Redis packs no longer ones")
		fields[markField(id)] = id + "."
	}
}

func TestMarksArePackedTightly(t *testing.T) {
	s := startServer(t)
	marks := newMarks(open(t, s, silent()), "storage", forgetful{}, time.Now)
	patient := redis.NewClient(&redis.Options{Addr: s.address, Password: "secret", ReadTimeout: time.Minute})
	t.Cleanup(func() { require.NoError(t, patient.Close()) })
	before := usedMemory(t, patient)
	const n = 5 * markBuckets // what is handled in an interval at some 1,100 events a second
	for i := 0; i < n; i += 256 {
		batch := make([]router.Mark, 256)
		for j := range batch {
			seq := i + j + 1
			batch[j] = router.Mark{
				EventID: events.EventID(events.NewMessage, fmt.Sprint(seq)),
				At:      events.Position{Partition: int32(seq % 64), Seq: int64(seq)},
			}
		}
		require.Eventually(t, func() bool { return marks.share(t.Context(), batch) == nil }, 30*time.Second, 10*time.Millisecond)
	}
	found, err := patient.Eval(t.Context(), `local set, packed, keys = 0, 0, redis.call('KEYS', '*')
		for _, k in ipairs(keys) do
			set = set + redis.call('HLEN', k)
			if redis.call('OBJECT', 'ENCODING', k) == 'listpack' then packed = packed + 1 end
		end
		return {#keys, packed, set}`, nil).Int64Slice()
	require.NoError(t, err)
	keys, packed, set := found[0], found[1], found[2]
	require.Positive(t, set)
	require.Equal(t, keys, packed)
	used := usedMemory(t, patient) - before
	t.Logf("%d marks under %d keys take %d bytes each", set, keys, used/set)
	// On a slow machine some belong to the next interval. A key for each mark takes 186 bytes.
	require.Less(t, used, 35*set+140*keys)
}

func usedMemory(t *testing.T, c *redis.Client) (bytes int64) {
	t.Helper()
	info, err := c.Info(t.Context(), "memory").Result()
	require.NoError(t, err)
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "used_memory:"); ok {
			bytes, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			require.NoError(t, err)
		}
	}
	require.Positive(t, bytes)
	return bytes
}

// Whatever becomes of Redis, this process knows its own marks, every call returns, and the failure is logged once.
func TestWithoutRedisMarksInMemoryServe(t *testing.T) {
	at := events.Position{Partition: 1, Seq: 2}
	for name, fault := range map[string]func(*testing.T, *server){
		"killed": func(_ *testing.T, s *server) { s.kill() },
		"frozen": func(t *testing.T, s *server) { s.freeze(t); t.Cleanup(func() { s.thaw(t) }) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := startServer(t)
			marks := open(t, s, slog.New(slog.NewTextHandler(&log, nil))).Marks("storage", router.NewMarks(1000))
			fault(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			for i := range 1000 { // with a full timeout each it would take minutes
				id := fmt.Sprint(i)
				marks.Mark(ctx, router.Mark{EventID: id, At: at})
				require.Equal(t, []events.Position{at, {}}, marks.Marked(ctx, id, "unknown"))
			}
			require.NoError(t, ctx.Err())
			require.Equal(t, 1, strings.Count(log.String(), "does not answer"))
			require.NotContains(t, log.String(), "secret")
		})
	}
}

func TestRedisIsUsedAgainOnceItIsBack(t *testing.T) {
	s := startServer(t)
	marks := open(t, s, silent()).Marks("storage", forgetful{})
	at := events.Position{Partition: 1, Seq: 2}
	s.kill()
	marks.Mark(t.Context(), router.Mark{EventID: "early", At: at})
	s.start(t)
	require.Eventually(t, func() bool {
		marks.Mark(t.Context(), router.Mark{EventID: "a", At: at})
		return slices.Equal([]events.Position{at, at}, marks.Marked(t.Context(), "a", "early"))
	}, 30*time.Second, 10*time.Millisecond)
}
