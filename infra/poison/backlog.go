package poison

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const backlogInterval = time.Second

// Backlog measures once a second how many entries of a queue were neither replayed nor discarded.
type Backlog struct {
	follower *Follower
	gauge    *prometheus.GaugeVec // it has no value until the queue was read
	logger   *slog.Logger
}

// NewBacklog returns the measurement of the queue that f follows. All processes that measure it see the same, so take the
// maximum.
func NewBacklog(reg prometheus.Registerer, f *Follower, logger *slog.Logger) *Backlog {
	b := &Backlog{
		follower: f, logger: logger,
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_poison_backlog_records", Help: "Records in the poison queue of the topic that were not replayed.",
			ConstLabels: prometheus.Labels{"topic": f.queue.topic},
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
	open, err := b.follower.Open(ctx)
	if err != nil {
		return fmt.Errorf("backlog: %w", err)
	}
	b.gauge.WithLabelValues().Set(float64(open))
	return nil
}
