package push

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// BenchmarkHandle measures what the handler spends on a 100-byte message while the gateways' frames are taken and thrown
// away.
func BenchmarkHandle(b *testing.B) {
	group := messageAt(events.Position{}, 2, strings.Repeat("x", 100))
	group.Message.To, group.Message.GroupID, group.Message.Conversation = 0, 7, events.Group(7)
	direct := messageAt(events.Position{}, 2, strings.Repeat("x", 100))
	for _, c := range []struct {
		name     string
		record   events.Record
		gateways int
		channels []string
	}{
		{"nobody listens", direct, 1, nil},
		{"direct message, 1 gateway", direct, 1, []string{"u:1", "u:2"}},
		{"direct message, 2 gateways", direct, 2, []string{"u:1", "u:2"}},
		{"group, 1 gateway of many members", group, 1, []string{"g:7"}},
		{"group, 20 gateways", group, 20, []string{"g:7"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			hub := New(Options{QueueItems: 1 << 30, QueueBytes: 1 << 40}, admitAll{}, slog.New(slog.DiscardHandler))
			handler := hub.Handler()
			handler.Assigned(events.Position{})
			var taking sync.WaitGroup
			for i := range c.gateways {
				s := newGateway(newQueue(hub.opts))
				hub.routes.attach(s)
				// Each gateway is interested in as many other users as a gateway may have.
				add := append([]string(nil), c.channels...)
				for user := range 10_000 {
					add = append(add, fmt.Sprint("u:", 1000+10_000*i+user))
				}
				require.NoError(b, hub.routes.change(s, &millracev1.Interest{Number: 1, Add: add}))
				taking.Go(func() {
					for s.queue.next() != nil {
						continue
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				c.record.Seq++
				if err := handler.Handle(b.Context(), c.record); err != nil {
					b.Fatal(err)
				}
				handler.Settled(c.record.Position)
			}
			b.StopTimer()
			for s := range hub.routes.gateways {
				s.queue.end(nil)
			}
			taking.Wait()
		})
	}
}
