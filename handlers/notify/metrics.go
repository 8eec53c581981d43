package notify

import "github.com/prometheus/client_golang/prometheus"

// The two kinds of targets.
const (
	channelWebPush = "webpush"
	channelWebhook = "webhook"
)

type metrics struct {
	sent   *prometheus.CounterVec
	untold *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_notifications_total",
			Help: "Notifications by channel and result: sent; gone (the browser was unsubscribed); refused; failed (tried again later); abandoned (tried too often).",
		}, []string{"channel", "result"}),
		untold: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_notifications_untold_total", Help: "Notifications that were not sent, by reason.",
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.sent, m.untold)
	}
	return m
}
