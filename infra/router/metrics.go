package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/telemetry"
)

// Metrics makes an [Options].Observe that counts and measures for each handler by itself.
func Metrics(reg prometheus.Registerer) func(Observation) {
	handler := []string{"handler"}
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_handler_records_total",
		Help: "Deliveries of records to the handler by how they ended: handled, repeated, skipped, poisoned, or failed and to come again.",
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
	return func(o Observation) {
		records.WithLabelValues(o.Handler, string(o.Outcome)).Inc()
		if o.Retries > 0 {
			retries.WithLabelValues(o.Handler).Add(float64(o.Retries))
		}
		duration.WithLabelValues(o.Handler).Observe(o.Took.Seconds())
		if o.Outcome == Handled {
			age.WithLabelValues(o.Handler).Observe(max(0, o.Age.Seconds()))
		}
	}
}
