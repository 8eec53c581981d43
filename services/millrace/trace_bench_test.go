package main

import (
	"context"
	"slices"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/fx"

	"millrace/infra/telemetry"
	"millrace/services/millrace/proof"
)

// BenchmarkPathWithTraces compares a message on its way through the whole system without traces, with one in a hundred
// recorded, and with all. All take turns. The share is how much of the time with traces the way without takes.
func BenchmarkPathWithTraces(b *testing.B) {
	ratios := []float64{0, 0.01, 1}
	var pairs []*pair
	for i, ratio := range ratios {
		replaced := fx.Options()
		if ratio > 0 {
			provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(tracetest.NewNoopExporter()),
				sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))))
			b.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(b.Context())) })
			replaced = fx.Decorate(func(*telemetry.Tracer) *telemetry.Tracer { return telemetry.NewTracer(provider) })
		}
		pairs = append(pairs, newPair(b, i, startDevWith(b, b.TempDir(), replaced).url(), proof.Token))
	}
	for b.Loop() {
		for range 20 {
			for _, p := range pairs {
				p.exchange(b)
			}
		}
	}
	p50 := func(all []time.Duration) time.Duration { slices.Sort(all); return all[len(all)/2] }
	off := p50(pairs[0].whole)
	b.ReportMetric(float64(off.Microseconds()), "off-µs")
	b.ReportMetric(off.Seconds()/p50(pairs[1].whole).Seconds(), "share/0.01")
	b.ReportMetric(off.Seconds()/p50(pairs[2].whole).Seconds(), "share/1")
}
