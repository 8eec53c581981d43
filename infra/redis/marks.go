package redis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"millrace/events"
	"millrace/infra/router"
)

const (
	// markInterval is how long marks are gathered before a new set of buckets is begun. Those of the interval before are
	// still asked for, so a mark is known for 10 to 20 minutes: much longer than clients repeat a send without an answer.
	markInterval = 10 * time.Minute
	// markBuckets is how many buckets the marks of a handler and an interval are spread over. Redis packs a hash tightly
	// as long as it has no more than 128 fields (hash-max-listpack-entries), that is up to some 26,000 marks a second.
	markBuckets = 1 << 17
)

// marks of one handler. Those that this process has set itself are found in its memory first.
//
// Each is a field of a small hash: the event id in its shortest form, which no other id has, with the position as value.
// A key for each mark would take up to six times the memory, and a filter that may be wrong would lose messages.
type marks struct {
	client *Client
	prefix string
	memory router.Marks
	now    func() time.Time
}

var _ router.Marks = (*marks)(nil)

// Marks are the marks of a handler, shared by all processes.
func (c *Client) Marks(handler string, memory router.Marks) router.Marks {
	return newMarks(c, handler, memory, time.Now)
}

func newMarks(c *Client, handler string, memory router.Marks, now func() time.Time) *marks {
	return &marks{client: c, prefix: prefix + "mark:" + handler + ":", memory: memory, now: now}
}

// Marked implements router.Marks with one round trip for all that the memory does not know.
func (m *marks) Marked(ctx context.Context, eventIDs ...string) []events.Position {
	at := m.memory.Marked(ctx, eventIDs...)
	var unknown []int
	for i, pos := range at {
		if pos.Seq == 0 {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) == 0 {
		return at
	}
	current := m.interval()
	found := make([][2]*redis.StringCmd, len(unknown)) // of this interval and of the one before
	if err := m.client.do(ctx, func(ctx context.Context) error {
		_, err := m.client.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, place := range unknown {
				field := markField(eventIDs[place])
				for j := range found[i] {
					found[i][j] = p.HGet(ctx, m.bucket(current-int64(j), field), field)
				}
			}
			return nil
		})
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	}); err != nil {
		return at
	}
	for i, place := range unknown {
		for _, answer := range found[i] {
			if pos, ok := parseMark(answer.Val()); ok {
				at[place] = pos
				break
			}
		}
	}
	return at
}

// Mark implements router.Marks with one round trip.
func (m *marks) Mark(ctx context.Context, marks ...router.Mark) {
	if len(marks) == 0 {
		return
	}
	m.memory.Mark(ctx, marks...)
	current := m.interval()
	gone := time.Unix(0, 0).Add(time.Duration(current+2) * markInterval)
	_ = m.client.do(ctx, func(ctx context.Context) error { // a mark may be lost
		// In a transaction, so that no bucket is left without its time to go.
		_, err := m.client.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for _, mark := range marks {
				field := markField(mark.EventID)
				bucket := m.bucket(current, field)
				p.HSet(ctx, bucket, field, formatMark(mark.At))
				p.ExpireAt(ctx, bucket, gone)
			}
			return nil
		})
		return err
	})
}

// interval is the number of the present interval, by this process's clock. Where clocks differ by less than an interval
// no mark is lost.
func (m *marks) interval() int64 { return m.now().UnixNano() / int64(markInterval) }

// bucket is the key of the hash that the field belongs into.
func (m *marks) bucket(interval int64, field string) string {
	return fmt.Sprintf("%s%x:%x", m.prefix, interval, crc32.ChecksumIEEE([]byte(field))%markBuckets)
}

// markField is a short form of an event id. An id of our own is 128 bits in letters, of which the bits are kept. Any other
// is kept as it is, and one so long that Redis would no longer pack the hash by its SHA-256, each behind a byte that keeps
// the forms apart.
func markField(eventID string) string {
	const longest = 60
	var bits [16]byte
	if len(eventID) == base64.RawURLEncoding.EncodedLen(len(bits)) {
		if _, err := base64.RawURLEncoding.Strict().Decode(bits[:], []byte(eventID)); err == nil {
			return string(bits[:])
		}
	}
	if len(eventID) <= longest {
		return "=" + eventID
	}
	sum := sha256.Sum256([]byte(eventID))
	return "#" + string(sum[:])
}

func formatMark(at events.Position) []byte {
	b := binary.AppendUvarint(nil, uint64(at.Partition))
	return binary.AppendUvarint(b, uint64(at.Seq))
}

func parseMark(value string) (events.Position, bool) {
	partition, n := binary.Uvarint([]byte(value))
	if n <= 0 || partition > math.MaxInt32 {
		return events.Position{}, false
	}
	seq, m := binary.Uvarint([]byte(value)[n:])
	if m <= 0 || n+m != len(value) || seq == 0 || seq > events.MaxID {
		return events.Position{}, false
	}
	return events.Position{Partition: int32(partition), Seq: int64(seq)}, true
}
