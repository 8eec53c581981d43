package connect

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/telemetry"
)

// metrics is what the gateway counts and measures.
type metrics struct {
	sends    *prometheus.CounterVec
	answered prometheus.Histogram
	pushes   prometheus.Counter
	closes   *prometheus.CounterVec
	connects *prometheus.CounterVec
	gaps     prometheus.Counter
}

// newMetrics registers them, unless there is nowhere to.
func newMetrics(reg prometheus.Registerer, g *Gateway) *metrics {
	m := &metrics{
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_sends_total", Help: "Sends answered, by result: sent or the error's code.",
		}, []string{"result"}),
		answered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_send_duration_seconds", Buckets: telemetry.LatencyBuckets(),
			Help: "Time from the arrival of a send to its answer.",
		}),
		pushes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_pushes_total", Help: "Deliveries to sessions as they happen, without what a session that resumes is given.",
		}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_closes_total", Help: "Connections that the gateway closed or lost (1006), by close code.",
		}, []string{"code"}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_connects_total",
			Help: "Sessions connected, by what they were given: new (no cursor), recovered, incomplete (the rest follows) or not_recovered.",
		}, []string{"result"}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_gap_reads_total", Help: "Reads of the log for records that no push node had delivered.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.sends, m.answered, m.pushes, m.closes, m.connects, m.gaps,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "millrace_connections", Help: "WebSocket connections that are open.",
			}, func() float64 { connections, _ := g.load(); return float64(connections) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "millrace_connection_queue_bytes", Help: "Bytes that wait to be written to clients.",
			}, func() float64 { _, bytes := g.load(); return float64(bytes) }),
		)
	}
	return m
}

// load is how many connections there are, and how much waits for them.
func (g *Gateway) load() (connections, bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		bytes += s.out.waits()
	}
	return len(g.sessions), bytes
}

func (m *metrics) send(o *outgoing, refused *refusal) {
	m.answered.Observe(time.Since(o.at).Seconds())
	if refused != nil {
		m.sends.WithLabelValues(refused.Code).Inc()
		return
	}
	m.sends.WithLabelValues("sent").Inc()
}

func (m *metrics) close(code int) { m.closes.WithLabelValues(strconv.Itoa(code)).Inc() }

// connect counts a session that was given the answer.
func (m *metrics) connect(resumed bool, a *synced) {
	result := "recovered"
	switch {
	case !resumed:
		result = "new"
	case !a.start.GetRecovered():
		result = "not_recovered"
	case !a.complete():
		result = "incomplete"
	}
	m.connects.WithLabelValues(result).Inc()
}
