package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"millrace/events"
	"millrace/infra/telemetry"
)

// Metrics returns a function for [Options].Observe that counts and measures for each handler by itself. It creates all series
// at the start with the value zero, because a rate does not see the value that a series begins with.
func Metrics(reg prometheus.Registerer, handlers []events.Handler) func(Observation) {
	handler := []string{"handler"}
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_handler_records_total",
		Help: "Deliveries of records to the handler by how they ended: handled, repeated, skipped, poisoned (stuck ones too), or failed and to come again.",
	}, []string{"handler", "outcome"})
	retries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_handler_retries_total", Help: "Further attempts at records that had failed.",
	}, handler)
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_handler_duration_seconds", Buckets: telemetry.LatencyBuckets(),
		Help: "Time from delivery of a record to its end, retries included; of a batch each record's share.",
	}, handler)
	age := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_handler_record_age_seconds", Buckets: telemetry.AgeBuckets(),
		Help: "Age of records when they were handled, by their own timestamp, which is in whole seconds.",
	}, handler)
	reg.MustRegister(records, retries, duration, age)
	meters := make(map[string]meter, len(handlers))
	for _, h := range handlers {
		m := meter{
			outcomes: map[Outcome]prometheus.Counter{}, retries: retries.WithLabelValues(h.Name),
			duration: duration.WithLabelValues(h.Name), age: age.WithLabelValues(h.Name),
		}
		for _, o := range []Outcome{Handled, Repeated, Skipped, Poisoned, Failed} {
			m.outcomes[o] = records.WithLabelValues(h.Name, string(o))
		}
		meters[h.Name] = m
	}
	return func(o Observation) { meters[o.Handler].observe(o) }
}

// meter is the set of metrics of one handler.
type meter struct {
	outcomes      map[Outcome]prometheus.Counter
	retries       prometheus.Counter
	duration, age prometheus.Observer
}

func (m meter) observe(o Observation) {
	m.outcomes[o.Outcome].Add(float64(o.Records))
	m.retries.Add(float64(o.Retries))
	for range o.Records {
		m.duration.Observe(o.Took.Seconds())
		if o.Outcome == Handled {
			m.age.Observe(max(0, o.Age.Seconds()))
		}
	}
}
