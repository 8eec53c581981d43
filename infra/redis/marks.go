package redis

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"millrace/events"
	"millrace/infra/router"
)

// markedFor is how long a mark stays: much longer than clients repeat a send that was not answered.
const markedFor = time.Hour

// marks of one handler. Those that this process has set itself are found in its memory first.
type marks struct {
	client *Client
	prefix string
	memory router.Marks
}

var _ router.Marks = (*marks)(nil)

// Marks are the marks of a handler, shared by all processes. Each event costs a key of some 80 bytes for an hour.
func (c *Client) Marks(handler string, memory router.Marks) router.Marks {
	return &marks{client: c, prefix: prefix + "mark:" + handler + ":", memory: memory}
}

// Marked implements router.Marks with one round trip for all that the memory does not know.
func (m *marks) Marked(ctx context.Context, eventIDs ...string) []events.Position {
	at := m.memory.Marked(ctx, eventIDs...)
	var keys []string
	var places []int
	for i, pos := range at {
		if pos.Seq == 0 {
			keys, places = append(keys, m.prefix+eventIDs[i]), append(places, i)
		}
	}
	if len(keys) == 0 {
		return at
	}
	var values []any
	if err := m.client.do(ctx, func(ctx context.Context) (err error) {
		values, err = m.client.redis.MGet(ctx, keys...).Result()
		return err
	}); err != nil {
		return at
	}
	for i, value := range values {
		if text, ok := value.(string); ok {
			if pos, err := events.ParsePosition(text); err == nil {
				at[places[i]] = pos
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
	_ = m.client.do(ctx, func(ctx context.Context) error { // a mark may be lost
		_, err := m.client.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, mark := range marks {
				p.Set(ctx, m.prefix+mark.EventID, mark.At.String(), markedFor)
			}
			return nil
		})
		return err
	})
}
