package telemetry

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/events"
	"millrace/infra/pubsub"
)

// The values of the metric's label: how publishing a record ended.
const (
	accepted = "ok"
	failed   = "error"
)

// measuredBus is a bus whose publisher is measured.
type measuredBus struct {
	pubsub.Bus
	publisher message.Publisher
}

// MeasureBus returns the bus with a publisher that measures what is published.
func MeasureBus(reg prometheus.Registerer, bus pubsub.Bus) pubsub.Bus {
	topic := []string{"topic"}
	p := measuredPublisher{
		Publisher: bus.Publisher(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_publish_duration_seconds", Buckets: LatencyBuckets(),
			Help: "Time until the broker acknowledged an ordered batch of records, or it failed.",
		}, topic),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_publish_records_total", Help: "Records handed to the broker by result: ok or error.",
		}, []string{"topic", "result"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_publish_waiting_records", Help: "Records that wait for the broker's acknowledgement.",
		}),
	}
	reg.MustRegister(p.duration, p.records, p.waiting)
	for _, topic := range events.Topics() {
		for _, result := range []string{accepted, failed} {
			p.records.WithLabelValues(topic, result) // the series exist from the start, at zero
		}
	}
	return measuredBus{bus, p}
}

func (b measuredBus) Publisher() message.Publisher { return b.publisher }

type measuredPublisher struct {
	message.Publisher
	duration *prometheus.HistogramVec
	records  *prometheus.CounterVec
	waiting  prometheus.Gauge
}

func (p measuredPublisher) Publish(topic string, messages ...*message.Message) error {
	begin := time.Now()
	p.waiting.Add(float64(len(messages)))
	err := p.Publisher.Publish(topic, messages...)
	p.waiting.Sub(float64(len(messages)))
	p.duration.WithLabelValues(topic).Observe(time.Since(begin).Seconds())
	result := accepted
	if err != nil {
		result = failed
	}
	p.records.WithLabelValues(topic, result).Add(float64(len(messages)))
	return err
}
