package sqlite

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// most is a parameter because filling a store with ten million messages takes a minute and 1.9 GB.
var most = flag.Int64("growth.messages", 100_000, "Benchmark…AsItGrows: messages in the largest store")

// BenchmarkHistoryAsItGrows compares how long a page of 50 messages takes, from a random place of a random conversation, when
// ten thousand messages are stored and when many more are. The stores take turns, so that what slows the machine down meets all.
func BenchmarkHistoryAsItGrows(b *testing.B) {
	for _, conversations := range []int64{50, 100_000} {
		b.Run(fmt.Sprintf("conversations=%d", conversations), func(b *testing.B) {
			type size struct {
				messages, conversations int64
				db                      *DB
				took                    []time.Duration
			}
			var sizes []*size
			for n := int64(10_000); n <= *most; n *= 10 {
				s := &size{messages: n, conversations: min(conversations, n/100)}
				s.db = filled(b, s.conversations, n)
				sizes = append(sizes, s)
			}
			b.ResetTimer()
			for b.Loop() {
				for _, s := range sizes {
					s.took = append(s.took, readPage(b, s.db, s.conversations, s.messages))
				}
			}
			smallest := quantiles(sizes[0].took)
			for _, s := range sizes {
				now := quantiles(s.took)
				b.ReportMetric(float64(now[0].Microseconds()), fmt.Sprintf("p50-µs/%d", s.messages))
				b.ReportMetric(float64(now[1].Microseconds()), fmt.Sprintf("p99-µs/%d", s.messages))
				b.ReportMetric(float64(now[1])/float64(smallest[1]), fmt.Sprintf("p99-ratio/%d", s.messages))
			}
		})
	}
}

// quantiles returns the median and the 99th percentile.
func quantiles(took []time.Duration) [2]time.Duration {
	slices.Sort(took)
	return [2]time.Duration{took[len(took)/2], took[len(took)*99/100]}
}

// readPage reads a page of a store that was made by filled, where the messages of a conversation have consecutive seqs.
func readPage(b *testing.B, db *DB, conversations, messages int64) time.Duration {
	each := messages / conversations
	number := rand.Int64N(conversations)
	before := number*each + 51 + rand.Int64N(each-50)
	begin := time.Now()
	found, _, err := db.History(b.Context(), events.Direct(1, 2+number), store.Page{Newest: true, Before: before, Limit: 50})
	took := time.Since(begin)
	require.NoError(b, err)
	require.Len(b, found, 50)
	return took
}

// BenchmarkSaveBatchAsItGrows compares what a message costs in a batch of 512, whose messages are for random conversations, when
// ten thousand messages are stored and when many more are.
func BenchmarkSaveBatchAsItGrows(b *testing.B) {
	for _, conversations := range []int64{50, 100_000} {
		b.Run(fmt.Sprintf("conversations=%d", conversations), func(b *testing.B) {
			type size struct {
				messages, conversations int64
				db                      *DB
				took                    time.Duration
			}
			var sizes []*size
			for n := int64(10_000); n <= *most; n *= 10 {
				s := &size{messages: n, conversations: min(conversations, n/100)}
				s.db = filled(b, s.conversations, n)
				require.NoError(b, s.db.writer.within(b.Context(), func(ctx context.Context, c *conn) error {
					_, err := c.ExecContext(ctx, "CREATE UNIQUE INDEX message_ids ON messages (id)")
					return err
				}))
				sizes = append(sizes, s)
			}
			sent := int64(0)
			b.ResetTimer()
			for b.Loop() {
				sent += 512
				for _, s := range sizes {
					batch := make([]events.Record, 512)
					for i := range batch {
						batch[i] = newMessage(2+rand.Int64N(s.conversations), s.messages+sent+int64(i))
					}
					begin := time.Now()
					for _, err := range s.db.SaveBatch(b.Context(), batch) {
						require.NoError(b, err)
					}
					s.took += time.Since(begin)
				}
			}
			for _, s := range sizes {
				b.ReportMetric(s.took.Seconds()*1e6/float64(sent), fmt.Sprintf("µs/message/%d", s.messages))
				b.ReportMetric(s.took.Seconds()/sizes[0].took.Seconds(), fmt.Sprintf("ratio/%d", s.messages))
			}
		})
	}
}

// newMessage returns a message of user 1 to another.
func newMessage(to, seq int64) events.Record {
	conversation := events.Direct(1, to)
	id := fmt.Sprint(seq)
	return events.Record{
		Event: events.Event{Type: events.NewMessage, Message: &events.Message{
			MessageID: events.MessageID(1, conversation, id), ClientMsgID: id, Conversation: conversation, From: 1, To: to,
			Content: strings.Repeat("x", 100), MessageType: 1, Timestamp: seq,
		}},
		Position: events.Position{Partition: events.Partition(conversation, events.DefaultPartitions), Seq: seq},
	}
}
