package telemetry

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/pubsub"
)

// openTransactions measures what open transactions of other producers keep from the readers of a topic.
type openTransactions struct {
	log     pubsub.Log
	records *prometheus.GaugeVec
	seconds prometheus.Gauge
	held    map[int32]held
}

// held is since when an open transaction has held a partition at a position.
type held struct {
	stable int64
	since  time.Time
}

func newOpenTransactions(reg prometheus.Registerer, topic string, log pubsub.Log) *openTransactions {
	labels := prometheus.Labels{"topic": topic}
	o := &openTransactions{
		log: log, held: make(map[int32]held),
		records: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_open_transaction_records", ConstLabels: labels,
			Help: "Offsets of the partition from the oldest open transaction on, which no reader is given before that has ended.",
		}, []string{"partition"}),
		seconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_open_transaction_seconds", ConstLabels: labels,
			Help: "For how long at least one and the same open transaction has held back a partition, the longest of all, as far as this process has watched.",
		}),
	}
	reg.MustRegister(o.records, o.seconds)
	return o
}

func (o *openTransactions) measure(ctx context.Context, now time.Time) error {
	bounds, err := o.log.Bounds(ctx)
	if err != nil {
		return err
	}
	var longest time.Duration
	for partition, b := range bounds {
		o.records.WithLabelValues(strconv.Itoa(int(partition))).Set(float64(b.Written - b.Stable))
		before, ok := o.held[partition]
		switch {
		case b.Stable == b.Written:
			delete(o.held, partition)
		case !ok || before.stable != b.Stable:
			o.held[partition] = held{b.Stable, now}
		default:
			longest = max(longest, now.Sub(before.since))
		}
	}
	o.seconds.Set(longest.Seconds())
	return nil
}
