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
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"millrace/events"
	"millrace/infra/router"
)

const (
	// markInterval is how long marks go into one set of buckets before a new set begins. The buckets of the interval before
	// are still read, so a mark is known for 10 to 20 minutes, much longer than clients repeat a send that was not answered.
	markInterval = 10 * time.Minute
	// markBuckets is over how many buckets the marks of a handler and an interval are spread. Redis packs a hash tightly as
	// long as it has at most 128 fields (hash-max-listpack-entries), which is up to some 26,000 marks a second.
	markBuckets = 1 << 17
	// markedAtOnce is how many marks one call sets, which Redis has to do within [patience].
	markedAtOnce = 512
	// maxOwed is how many marks of a handler, some 1 MB, wait at most until Redis responds again. Of more, the older half is lost.
	maxOwed = 16_384
)

// marks are the marks of one handler. Those that this process has set itself are found in its memory first.
//
// Each mark is a field of a small hash: its name is the shortest form of the event id that no other id has, and its value is
// the position. A key for each mark would take up to six times the memory, and a probabilistic filter would lose messages.
type marks struct {
	client *Client
	prefix string
	memory router.Marks
	now    func() time.Time

	mu   sync.Mutex
	owed []router.Mark // that Redis did not take; they are set after the next ones that it takes
}

var _ router.Marks = (*marks)(nil)

// Marks returns the marks of a handler, which all processes share.
func (c *Client) Marks(handler string, memory router.Marks) router.Marks {
	return newMarks(c, handler, memory, time.Now)
}

func newMarks(c *Client, handler string, memory router.Marks, now func() time.Time) *marks {
	return &marks{client: c, prefix: prefix + "mark:" + handler + ":", memory: memory, now: now}
}

// Marked implements router.Marks, with one round trip for all that memory does not know.
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

// Mark implements router.Marks with one round trip. What Redis does not take now is set by a later call, so that others learn of
// it all the same, unless this process ends before that.
func (m *marks) Mark(ctx context.Context, marks ...router.Mark) {
	if len(marks) == 0 {
		return
	}
	m.memory.Mark(ctx, marks...)
	if m.shareAll(ctx, marks) {
		m.shareAll(ctx, m.takeOwed())
	}
}

// shareAll sets the marks in Redis. It reports false if Redis does not take all; then it notes what is owed.
func (m *marks) shareAll(ctx context.Context, marks []router.Mark) bool {
	for len(marks) > 0 {
		some := marks[:min(len(marks), markedAtOnce)]
		if m.share(ctx, some) != nil {
			m.owe(marks)
			return false
		}
		marks = marks[len(some):]
	}
	return true
}

func (m *marks) owe(marks []router.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owed = append(m.owed, marks...); len(m.owed) > maxOwed {
		m.owed = slices.Clone(m.owed[len(m.owed)-maxOwed/2:])
	}
}

func (m *marks) takeOwed() (owed []router.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	owed, m.owed = m.owed, nil
	return owed
}

// share sets the marks in Redis.
func (m *marks) share(ctx context.Context, marks []router.Mark) error {
	current := m.interval()
	gone := time.Unix(0, 0).Add(time.Duration(current+2) * markInterval)
	return m.client.do(ctx, func(ctx context.Context) error {
		// A transaction, so that no bucket is left without an expiry.
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

// interval returns the number of the present interval by this process's clock. No mark is lost as long as clocks differ by
// less than an interval.
func (m *marks) interval() int64 { return m.now().UnixNano() / int64(markInterval) }

// bucket returns the key of the hash that the field belongs to.
func (m *marks) bucket(interval int64, field string) string {
	return fmt.Sprintf("%s%x:%x", m.prefix, interval, crc32.ChecksumIEEE([]byte(field))%markBuckets)
}

// markField returns a short form of an event id. Of an id that Millrace derived, which is 128 bits written in letters, it
// keeps the bits. It keeps any other id as it is, or its SHA-256 if the id is so long that Redis would no longer pack the
// hash. A first byte tells the forms apart.
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
