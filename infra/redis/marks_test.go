package redis

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/router"
	"millrace/infra/router/markstest"
)

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// forgetful keeps nothing, so that Redis has to answer.
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
	ttl, err := here.redis.TTL(t.Context(), prefix+"mark:storage:a").Result()
	require.NoError(t, err)
	require.Positive(t, ttl, "a mark must not stay for ever")
}

// Whatever becomes of Redis, what this process has marked is known, a call ends, and it is said once.
func TestWithoutRedisTheMemoryServes(t *testing.T) {
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
			for i := range 1000 { // at a full timeout each it would take minutes
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
	marks.Mark(t.Context(), router.Mark{EventID: "lost", At: at})
	s.start(t)
	require.Eventually(t, func() bool {
		marks.Mark(t.Context(), router.Mark{EventID: "a", At: at})
		return marks.Marked(t.Context(), "a")[0] == at
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, []events.Position{{}}, marks.Marked(t.Context(), "lost"))
}
