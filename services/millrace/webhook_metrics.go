package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"millrace/handlers/webhook"
)

// webhookMetrics collects what the endpoints of the webhook handler have to tell.
type webhookMetrics struct {
	webhooks           *webhook.Webhooks
	requests, disabled *prometheus.Desc
}

func registerWebhookMetrics(w *webhook.Webhooks, reg prometheus.Registerer) error {
	return reg.Register(&webhookMetrics{
		webhooks: w,
		requests: prometheus.NewDesc("millrace_webhook_requests_total",
			"Requests to an endpoint by what came of them: taken, refused for good, or failed and to be repeated.", []string{"webhook", "result"}, nil),
		disabled: prometheus.NewDesc("millrace_webhook_disabled",
			"1 while an endpoint gets nothing because it has answered 410 Gone, else 0.", []string{"webhook"}, nil),
	})
}

// Describe implements [prometheus.Collector].
func (m *webhookMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- m.requests
	descs <- m.disabled
}

// Collect implements [prometheus.Collector].
func (m *webhookMetrics) Collect(metrics chan<- prometheus.Metric) {
	for _, f := range m.webhooks.Figures() {
		for result, n := range map[string]int64{"taken": f.Taken, "refused": f.Refused, "failed": f.Failed} {
			metrics <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), f.Name, result)
		}
		disabled := 0.0
		if f.Disabled {
			disabled = 1
		}
		metrics <- prometheus.MustNewConstMetric(m.disabled, prometheus.GaugeValue, disabled, f.Name)
	}
}
