package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Incidents returns a function that counts incidents of the log. Every process that notices an incident counts it: take the
// maximum.
func Incidents(reg prometheus.Registerer) func(pubsub.Incident) {
	last := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_log_incident_timestamp_seconds",
		Help: "When the log was last found to have lost something, or a group to have to handle records again; 0: never.",
	}, []string{"topic", "kind"})
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_log_incident_records_total",
		Help: "Records that are concerned by incidents of the log, as far as that can be counted.",
	}, []string{"topic", "kind"})
	reg.MustRegister(last, records)
	for _, kind := range []pubsub.IncidentKind{pubsub.TopicAnew, pubsub.LogCut, pubsub.RecordsGone, pubsub.HandledAgain} {
		last.WithLabelValues(events.TopicMessages, string(kind)) // the series exist from the start, at zero
		records.WithLabelValues(events.TopicMessages, string(kind))
	}
	return func(i pubsub.Incident) {
		last.WithLabelValues(i.Topic, string(i.Kind)).SetToCurrentTime()
		records.WithLabelValues(i.Topic, string(i.Kind)).Add(float64(i.Records))
	}
}
