package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// flushTimeout bounds how long the end of the process waits for the spans that are not exported yet.
const flushTimeout = 3 * time.Second

// Tracing exports the spans that its tracer records. Its settings are OpenTelemetry's own environment variables. Sampling, the
// resource, the bounds of spans and batches and how the collector is reached are what the SDK reads from them by itself.
type Tracing struct {
	provider *sdktrace.TracerProvider
	queues   []*spanQueue
}

// TracesConfigured reports whether the environment asks for traces: OTEL_TRACES_EXPORTER names an exporter, or there is an
// endpoint for one. OTEL_SDK_DISABLED turns them off.
func TracesConfigured() bool {
	names := exporterNames()
	return len(names) > 0 && !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
}

// exporterNames returns what OTEL_TRACES_EXPORTER lists, without "none".
func exporterNames() (names []string) {
	list := os.Getenv("OTEL_TRACES_EXPORTER")
	if list == "" && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "") {
		list = "otlp"
	}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && name != "none" {
			names = append(names, name)
		}
	}
	return names
}

// StartTracing starts exporting to what the environment names. It waits for no collector. The service's name is
// millrace-<role> unless the environment says otherwise. It must be closed.
func StartTracing(ctx context.Context, role, version string, reg prometheus.Registerer, log *slog.Logger) (*Tracing, error) {
	attributes := []attribute.KeyValue{semconv.ServiceName("millrace-" + role), semconv.ServiceVersion(version)}
	if host, err := os.Hostname(); err == nil {
		attributes = append(attributes, semconv.HostName(host), semconv.ServiceInstanceID(fmt.Sprintf("%s:%d", host, os.Getpid())))
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attributes...), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(about)}
	t := &Tracing{}
	spans := newSpanCounter(reg)
	for _, name := range exporterNames() {
		to, err := newExporter(ctx, name)
		if err != nil {
			t.Close(ctx)
			return nil, err
		}
		q := newSpanQueue(to, queueSize(), spans, log.With("exporter", name))
		t.queues = append(t.queues, q)
		options = append(options, sdktrace.WithSpanProcessor(q))
	}
	t.provider = sdktrace.NewTracerProvider(options...)
	log.Info("traces are exported", "exporters", exporterNames())
	return t, nil
}

// Tracer returns the tracer whose spans are exported.
func (t *Tracing) Tracer() *Tracer { return NewTracer(t.provider) }

// Close exports what is left, for at most three seconds.
func (t *Tracing) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, q := range t.queues {
		closing.Go(func() { q.close(ctx) })
	}
	closing.Wait()
}

func newExporter(ctx context.Context, name string) (sdktrace.SpanExporter, error) {
	switch name {
	case "console":
		return stdouttrace.New()
	case "otlp":
		protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
		if protocol == "" {
			protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
		}
		switch protocol {
		case "", "http/protobuf":
			return otlptracehttp.New(ctx)
		case "grpc":
			return otlptracegrpc.New(ctx)
		}
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%s: want http/protobuf or grpc", protocol)
	}
	return nil, fmt.Errorf("OTEL_TRACES_EXPORTER=%s: want otlp, console or none", name)
}
