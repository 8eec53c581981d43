package poison

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/pubsub"
)

const backlogInterval = time.Second

// Backlog measures once a second how many entries of a queue were not replayed. It reads each record of the queue once and
// remembers the ids of those entries.
type Backlog struct {
	queue  *Queue
	read   map[int32]int64 // up to where
	open   map[string]struct{}
	gauge  *prometheus.GaugeVec // without a value until the queue was read
	logger *slog.Logger
}

// NewBacklog makes the measurement of the queue. All processes that measure it tell the same: take the maximum.
func NewBacklog(reg prometheus.Registerer, queue *Queue, logger *slog.Logger) *Backlog {
	b := &Backlog{
		queue: queue, open: make(map[string]struct{}), logger: logger,
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_poison_backlog_records", Help: "Records in the poison queue of the topic that were not replayed.",
			ConstLabels: prometheus.Labels{"topic": queue.topic},
		}, nil),
	}
	reg.MustRegister(b.gauge)
	return b
}

// Run measures until the context ends.
func (b *Backlog) Run(ctx context.Context) error {
	ticker := time.NewTicker(backlogInterval)
	defer ticker.Stop()
	for {
		if err := b.measure(ctx); err != nil && ctx.Err() == nil {
			b.logger.Debug("poison backlog unknown", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *Backlog) measure(ctx context.Context) error {
	var replayed []string // applied last: partitions are read one after the other
	read, err := b.queue.read(ctx, b.read, func(r pubsub.RawRecord, metadata message.Metadata) {
		if id := metadata.Get(ReplayedHeader); id != "" {
			replayed = append(replayed, id)
		} else {
			b.open[entryID(r.Position)] = struct{}{}
		}
	})
	if err != nil {
		return fmt.Errorf("backlog: %w", err) // the same records are read again, which changes nothing
	}
	for _, id := range replayed {
		delete(b.open, id)
	}
	b.read = read
	b.gauge.WithLabelValues().Set(float64(len(b.open)))
	return nil
}
