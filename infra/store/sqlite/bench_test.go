package sqlite

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// BenchmarkSaveBatch saves messages of 50 pairs with ids in random order, as hashes are.
func BenchmarkSaveBatch(b *testing.B) {
	for _, size := range []int{64, 512} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			db := open(b, filepath.Join(b.TempDir(), "store.db"))
			seqs := make(map[int32]int64)
			batch := make([]events.Record, size)
			text := strings.Repeat("x", 100)
			sent := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range batch {
					batch[i] = record(seqs, int64(sent%50), sent, text)
					sent++
				}
				b.StartTimer()
				for _, err := range db.SaveBatch(b.Context(), batch) {
					require.NoError(b, err)
				}
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func record(seqs map[int32]int64, pair int64, number int, text string) events.Record {
	from, to := 2*pair+1, 2*pair+2
	m := &events.Message{
		ClientMsgID: fmt.Sprint(number), Conversation: events.Direct(from, to), From: from, To: to,
		Content: text, MessageType: 1, Timestamp: int64(number),
	}
	m.MessageID = events.MessageID(from, m.Conversation, m.ClientMsgID)
	partition := events.Partition(m.Conversation, events.DefaultPartitions)
	seqs[partition]++
	return events.Record{
		Event:    events.Event{Type: events.NewMessage, Message: m},
		Position: events.Position{Partition: partition, Seq: seqs[partition]},
	}
}

// BenchmarkNewestPage compares reading the 50 newest messages of a conversation when ten thousand messages are stored and
// when as many are as the flag growth.messages says: first in one conversation, then in conversations of a thousand. The ratio
// should stay about 1.
func BenchmarkNewestPage(b *testing.B) {
	few, many := int64(10_000), *most
	for _, c := range []struct {
		name          string
		small, large  *DB
		conversations [2]int64
	}{
		{"one conversation", filled(b, 1, few), filled(b, 1, many), [2]int64{1, 1}},
		{"conversations of 1000", filled(b, few/1000, few), filled(b, many/1000, many), [2]int64{few / 1000, many / 1000}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var fast, slow time.Duration
			for b.Loop() {
				fast += readNewest(b, c.small, c.conversations[0])
				slow += readNewest(b, c.large, c.conversations[1])
			}
			b.ReportMetric(float64(fast.Microseconds())/float64(b.N), "µs/10k")
			b.ReportMetric(float64(slow.Microseconds())/float64(b.N), fmt.Sprintf("µs/%d", many))
			b.ReportMetric(slow.Seconds()/fast.Seconds(), "ratio")
		})
	}
}

func readNewest(b *testing.B, db *DB, conversations int64) time.Duration {
	name := events.Direct(1, 2+rand.Int64N(conversations))
	begin := time.Now()
	messages, _, err := db.History(b.Context(), name, store.Page{Newest: true, Limit: 50})
	elapsed := time.Since(begin)
	require.NoError(b, err)
	require.Len(b, messages, 50)
	return elapsed
}

// BenchmarkMissedNothing measures a Missed that finds nothing, for a user of five quiet conversations among the messages of
// others, as many as the flag growth.messages says.
func BenchmarkMissedNothing(b *testing.B) {
	db := filled(b, 1000, *most)
	seqs := make(map[int32]int64)
	var ranges []events.Range
	for i := range 5 {
		r := record(seqs, 1_000_000, i, "hello")
		r.Message.Conversation = events.Direct(r.Message.From, r.Message.To+int64(i))
		require.NoError(b, db.SaveBatch(b.Context(), []events.Record{r})[0])
	}
	for p := range int32(events.DefaultPartitions) {
		ranges = append(ranges, events.Range{Partition: p, After: 1 << 30, Through: 1 << 31})
	}
	for b.Loop() {
		missed, err := db.Missed(b.Context(), 2_000_001, ranges, 1000)
		require.NoError(b, err)
		require.Empty(b, missed)
	}
}

// filled returns a store with so many messages of user 1, in equal parts to so many others.
func filled(b *testing.B, conversations, messages int64) *DB {
	db := open(b, filepath.Join(b.TempDir(), "store.db"))
	numbers := `WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1 - 1) `
	c := <-db.writer.idle
	defer func() { db.writer.idle <- c }()
	_, err := c.ExecContext(b.Context(), "DROP INDEX message_ids") // whoever needs it makes it again once everything is there, which is faster
	require.NoError(b, err)
	for _, fill := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO conversations (id, name, partition, last_seq, active_at) SELECT n + 1, format('u:1:%d', n + 2), 0, ?2, 0 FROM numbers`, []any{conversations, messages}},
		{`INSERT INTO user_conversations (user, conversation_id, read_seq) SELECT 1, n + 1, 0 FROM numbers`, []any{conversations}},
		{`INSERT INTO messages (conversation_id, seq, id, client_id, sender, type, sent_at, recalled, edited_at, change_seq, content)
			SELECT n / (?1 / ?2) + 1, n + 1, randomblob(16), randomblob(16), 1, 1, n, 0, 0, 0,
			'a hundred bytes of content, as a message has that people write to each other in the middle of a day'
			FROM numbers`, []any{messages, conversations}},
	} {
		_, err := c.ExecContext(b.Context(), numbers+fill.query, fill.args...)
		require.NoError(b, err)
	}
	return db
}

// BenchmarkSentAt looks for a hundred messages that are not stored, as most that are sent, among a hundred thousand.
func BenchmarkSentAt(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "store.db"))
	seqs := make(map[int32]int64)
	number := 0
	next := func(n int) []events.Record {
		batch := make([]events.Record, n)
		for i := range batch {
			batch[i] = record(seqs, int64(number%50), number, "hello")
			number++
		}
		return batch
	}
	for range 100 {
		for _, err := range db.SaveBatch(b.Context(), next(1000)) {
			require.NoError(b, err)
		}
	}
	keys := make([]store.MessageKey, 100)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i, r := range next(len(keys)) {
			keys[i] = store.MessageKey{Conversation: r.Message.Conversation, MessageID: r.Message.MessageID}
		}
		b.StartTimer()
		found, err := db.SentAt(b.Context(), keys)
		require.NoError(b, err)
		require.Empty(b, found)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/message")
}
