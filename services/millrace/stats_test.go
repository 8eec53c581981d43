package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/analytics"
	"millrace/handlers/handlertest"
	"millrace/infra/store"
	"millrace/infra/store/sqlite"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndStatsCountEveryMessageOnceAlsoAfterARestart(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	for round := 1; round <= 2; round++ {
		d := startDevAs(t, dir, []string{"--handlers=storage,push,analytics"})
		a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
		for range 3 {
			a.Sends(t, client.ToUser(proof.Bob), "hello")
		}
		sent := b.Sends(t, client.ToUser(proof.Carol), "hi")
		stats := func(args ...string) string { return d.stats(t, args...) }
		require.Eventually(t, func() bool { return d.counted(t) >= 4*round }, proof.Patience, 50*time.Millisecond)
		var got millracev1.StatisticsResponse
		require.NoError(t, json.Unmarshal([]byte(stats("--span=day", "--last=2", "--json")), &got))
		require.Len(t, got.GetConversations(), 2)
		require.Equal(t, "u:1001:1002", got.GetConversations()[0].GetConversation())
		require.EqualValues(t, 3*round, got.GetConversations()[0].GetMessages())
		require.Equal(t, sent.Conversation, got.GetConversations()[1].GetConversation())
		require.EqualValues(t, round, got.GetConversations()[1].GetMessages())
		last := got.GetBuckets()[len(got.GetBuckets())-1]
		require.LessOrEqual(t, last.GetMessages(), int64(4*round))
		require.EqualValues(t, 2, last.GetUsers())
		require.EqualValues(t, 2, last.GetConversations())
		table := stats("--span=hour", "--top=1")
		require.Contains(t, table, "START")
		require.Contains(t, table, "u:1001:1002")
		require.NotContains(t, table, sent.Conversation)
		require.Contains(t, stats("--version=2"), "Nothing was counted", "by another version")
		d.stop()
	}
}

// stats returns what millrace stats prints.
func (d *dev) stats(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, append([]string{"stats", "--message-addrs=" + d.grpc.Addr()}, args...)...)
	require.NoError(t, err)
	return out
}

// counted returns how many messages analytics has counted.
func (d *dev) counted(t *testing.T, args ...string) (messages int) {
	t.Helper()
	var got millracev1.StatisticsResponse
	require.NoError(t, json.Unmarshal([]byte(d.stats(t, append(args, "--span=day", "--last=2", "--json")...)), &got))
	for _, b := range got.GetBuckets() {
		messages += int(b.GetMessages())
	}
	return messages
}

func TestStatsSayWhatIsWrong(t *testing.T) {
	_, err := run(t, "stats", "--span=week")
	require.ErrorContains(t, err, "want minute, hour or day")
	require.Equal(t, exitUsage, exitCode(err))
	_, err = run(t, "stats", "--version=0")
	require.ErrorContains(t, err, "MILLRACE_VERSION")
	d := startDev(t, t.TempDir())
	for _, args := range []string{"--last=0", "--last=1501", "--top=-1", "--top=1001"} {
		_, err := run(t, "stats", "--message-addrs="+d.grpc.Addr(), args)
		require.ErrorContains(t, err, "InvalidArgument", args)
		require.Equal(t, 1, exitCode(err))
	}
}

func openAnalytics(t *testing.T) handlertest.Subject {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), storeFile))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	begin := time.Now().Add(-5 * time.Hour).Truncate(time.Minute).Unix()
	return analyticsOver(t, db, begin)
}

// analyticsOver gives each record a minute of its own, by which what was counted can be told apart.
func analyticsOver(t *testing.T, db *sqlite.DB, begin int64) handlertest.Subject {
	t.Helper()
	const minute = 60
	h := analytics.New(analytics.Config{Series: analytics.Name}, db).Handler()
	batch := h.HandleBatch
	h.HandleBatch = func(ctx context.Context, records []events.Record) []error {
		records = slices.Clone(records)
		for i := range records {
			if m := records[i].Message; m != nil {
				timed := *m
				timed.Timestamp = begin + minute*records[i].Seq
				records[i].Message = &timed
			}
		}
		return batch(ctx, records)
	}
	h.Handle = func(ctx context.Context, r events.Record) error { return h.HandleBatch(ctx, []events.Record{r})[0] }
	return handlertest.Subject{
		Handler: h,
		Done: func(t *testing.T) (done []int64) {
			buckets, err := db.Buckets(t.Context(), analytics.Name, store.Spans()[0], begin)
			require.NoError(t, err)
			for _, b := range buckets {
				done = append(done, slices.Repeat([]int64{(b.Start - begin) / minute}, int(b.Messages))...)
			}
			return done
		},
		TakeOver: func(t *testing.T) handlertest.Subject { return analyticsOver(t, db, begin) },
	}
}
