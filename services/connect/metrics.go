package connect

import (
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/telemetry"
	"millrace/services/connect/cluster"
)

// metrics are the metrics of a gateway.
type metrics struct {
	sends    *prometheus.CounterVec
	sent     prometheus.Counter // the one of them without an error
	answered prometheus.Histogram
	relayed  prometheus.Counter
	pushes   prometheus.Counter
	closes   *prometheus.CounterVec
	connects *prometheus.CounterVec
	gaps     prometheus.Counter
	limited  *prometheus.CounterVec
}

// The limits beside those of the classes of verbs.
const (
	limitedFrames      = "frames"
	limitedConnections = "connections"
)

// newMetrics registers the metrics, unless reg is nil. All series exist from the start, at zero.
func newMetrics(reg prometheus.Registerer, g *Gateway) *metrics {
	m := &metrics{
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_sends_total", Help: "Sends answered, by result: sent or the error's code.",
		}, []string{"result"}),
		answered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_send_duration_seconds", Buckets: telemetry.LatencyBuckets(),
			Help: "Time from the arrival of a send to its answer.",
		}),
		relayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_deliveries_total", Help: "Deliveries that came from push nodes and the log, one for all sessions of a channel.",
		}),
		pushes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_pushes_total", Help: "Deliveries to sessions as they happen, without what a session that resumes is given.",
		}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_closes_total", Help: "Connections that the gateway closed or lost (1006), by close code; other: one of a client's own.",
		}, []string{"code"}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_connects_total",
			Help: "Sessions connected, by what they were given: new (no cursor), recovered, incomplete (the rest follows) or not_recovered.",
		}, []string{"result"}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_gap_reads_total", Help: "Reads of the log for records that no push node had delivered.",
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_rate_limited_total",
			Help: "What a user was refused because it asked for too much, by kind: sends, changes, queries, signals, frames (closed with 4029) or connections.",
		}, []string{"kind"}),
	}
	for c := range class(classes) {
		m.limited.WithLabelValues(c.String())
	}
	m.limited.WithLabelValues(limitedFrames)
	m.limited.WithLabelValues(limitedConnections)
	for _, result := range []string{
		codeInvalid, codeDenied, codeNotFound, codeTooLarge, codeRateLimited, codeRejected, codeUnavailable,
		codeInternal,
	} {
		m.sends.WithLabelValues(result)
	}
	m.sent = m.sends.WithLabelValues("sent")
	for _, result := range []string{"new", "recovered", "incomplete", "not_recovered"} {
		m.connects.WithLabelValues(result)
	}
	for _, code := range closeCodes() {
		m.closes.WithLabelValues(strconv.Itoa(code))
	}
	m.closes.WithLabelValues(otherCode)
	if reg != nil {
		reg.MustRegister(m.sends, m.answered, m.relayed, m.pushes, m.closes, m.connects, m.gaps, m.limited,
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

// load returns how many connections there are, and how many bytes wait for them.
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
	m.sent.Inc()
}

// otherCode stands for all codes that only clients choose.
const otherCode = "other"

// closeCodes returns the codes that are counted each by itself.
func closeCodes() []int {
	return []int{
		websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseProtocolError, websocket.CloseUnsupportedData,
		websocket.CloseAbnormalClosure, websocket.CloseInvalidFramePayloadData, websocket.CloseMessageTooBig,
		websocket.CloseTryAgainLater,
		closeUnauthenticated, closeExpired, closeSlow, closeReplaced, closeDisconnected, closeFlood,
	}
}

func (m *metrics) close(code int) {
	label := otherCode
	if slices.Contains(closeCodes(), code) {
		label = strconv.Itoa(code)
	}
	m.closes.WithLabelValues(label).Inc()
}

// connect counts a session that was connected with the response.
func (m *metrics) connect(resumed bool, a *cluster.Synced) {
	result := "recovered"
	switch {
	case !resumed:
		result = "new"
	case !a.Start.GetRecovered():
		result = "not_recovered"
	case !a.Complete():
		result = "incomplete"
	}
	m.connects.WithLabelValues(result).Inc()
}
