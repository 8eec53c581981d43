package telemetry

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spanQueue is a bounded queue before an exporter. Whoever ends a span never waits: when the queue is full the span is
// dropped. What is dropped or cannot be exported is counted, and logged when it begins.
type spanQueue struct {
	sdktrace.SpanProcessor // the SDK's own queue, which is as large, so that it never drops anything uncounted

	exporter *countedExporter
	bound    int64
	full     atomic.Bool // that was logged
}

func newSpanQueue(to sdktrace.SpanExporter, bound int, spans *prometheus.CounterVec, log *slog.Logger) *spanQueue {
	e := &countedExporter{SpanExporter: to, spans: spans, log: log, down: make(chan struct{})}
	e.stopped, e.stop = context.WithCancel(context.Background())
	return &spanQueue{
		SpanProcessor: sdktrace.NewBatchSpanProcessor(e, sdktrace.WithMaxQueueSize(bound)), exporter: e, bound: int64(bound),
	}
}

// OnEnd implements sdktrace.SpanProcessor. It never blocks.
func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	e := q.exporter
	if !s.SpanContext().IsSampled() {
		return
	}
	if e.waiting.Add(1) > q.bound {
		e.waiting.Add(-1)
		e.spans.WithLabelValues(spansDropped).Inc()
		if q.full.CompareAndSwap(false, true) {
			e.log.Warn("spans are dropped, for too many wait to be exported; from now on they are only counted", "most", q.bound)
		}
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// close exports what waits until the context is done, and returns when nothing is exported any more.
func (q *spanQueue) close(ctx context.Context) {
	_ = q.Shutdown(ctx) // the exporter counts what it could not export
	q.exporter.stop()
	<-q.exporter.down
}

// countedExporter counts what becomes of spans.
type countedExporter struct {
	sdktrace.SpanExporter
	spans *prometheus.CounterVec
	log   *slog.Logger

	waiting atomic.Int64 // spans in the queue or being exported
	failing atomic.Bool

	stopped context.Context //nolint:containedctx // it ends every export
	stop    context.CancelFunc
	down    chan struct{} // closed when nothing is exported any more
}

const (
	spansExported = "exported"
	spansFailed   = "failed"
	spansDropped  = "dropped"
)

func newSpanCounter(reg prometheus.Registerer) *prometheus.CounterVec {
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_trace_spans_total",
		Help: "Recorded spans by what became of them: exported, failed, or dropped because too many were waiting.",
	}, []string{"result"})
	reg.MustRegister(spans)
	for _, result := range []string{spansExported, spansFailed, spansDropped} {
		spans.WithLabelValues(result) // the series exist from the start, at zero
	}
	return spans
}

// queueSize returns how many spans may wait, in the way of the SDK.
func queueSize() int {
	if n, err := strconv.Atoi(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE")); err == nil && n > 0 {
		return n
	}
	return sdktrace.DefaultMaxQueueSize
}

// ExportSpans implements sdktrace.SpanExporter. It returns no error, because nobody else has to know of it.
func (e *countedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	defer e.waiting.Add(-int64(len(spans)))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unbind := context.AfterFunc(e.stopped, cancel)
	defer unbind()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.spans.WithLabelValues(spansFailed).Add(float64(len(spans)))
		if e.failing.CompareAndSwap(false, true) {
			e.log.Warn("spans cannot be exported, and are lost until they can", "error", err)
		}
		return nil
	}
	e.spans.WithLabelValues(spansExported).Add(float64(len(spans)))
	if e.failing.CompareAndSwap(true, false) {
		e.log.Info("spans are exported again")
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (e *countedExporter) Shutdown(ctx context.Context) error {
	defer close(e.down)
	return e.SpanExporter.Shutdown(ctx)
}
