package router

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// benchBus knows the position of its only message.
type benchBus struct {
	pubsub.Bus
	at events.Position
}

func (b *benchBus) Position(*message.Message) (events.Position, error) { return b.at, nil }

func (b *benchBus) Records(msg *message.Message) []*message.Message { return []*message.Message{msg} }

// stages returns a function that takes a 100-byte message with the headers through the stages, with decoding and without
// Watermill's goroutine.
func stages(b testing.TB, opts Options, headers ...string) func() {
	bus := &benchBus{at: events.Position{Partition: events.Partition("u:1:2", 64)}}
	opts.Observe = func(o Observation) {
		if o.Outcome != Handled {
			b.Fatal(o)
		}
	}
	c := newConsumer(bus, events.Handler{
		Name: "bench", Topic: events.TopicMessages, Handle: func(context.Context, events.Record) error { return nil },
	}, newDecoder(), opts.withDefaults(), slog.New(slog.DiscardHandler))
	c.partitions = 64
	consume := message.HandlerFunc(func(msg *message.Message) ([]*message.Message, error) { return nil, c.handle(msg) })
	for _, stage := range slices.Backward(c.stages) { // as Watermill does
		consume = stage(consume)
	}
	content := strings.Repeat("x", 100)
	return func() {
		bus.at.Seq++
		msg := message.NewMessage("", []byte(`{"type":"new_message","message":{"message_id":"m`+strconv.FormatInt(bus.at.Seq, 10)+
			`","client_msg_id":"c","conversation":"u:1:2","from":1,"to":2,"content":"`+content+
			`","message_type":1,"timestamp":1642678800},"timestamp":1642678800}`))
		for i := 0; i+1 < len(headers); i += 2 {
			msg.Metadata.Set(headers[i], headers[i+1])
		}
		if _, err := consume(msg); err != nil {
			b.Fatal(err)
		}
	}
}

const benchParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// recordAll returns options with a tracer that throws its spans away.
func recordAll() Options {
	return Options{Tracer: telemetry.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter())))}
}

// BenchmarkStages measures what a message costs on its way through the stages, without and with traces.
func BenchmarkStages(b *testing.B) {
	for _, c := range []struct {
		name    string
		opts    Options
		headers []string
	}{
		{"no tracer", Options{}, nil},
		{"a tracer, no trace", recordAll(), nil},
		{"recorded", recordAll(), []string{"traceparent", benchParent}},
	} {
		b.Run(c.name, func(b *testing.B) {
			consume := stages(b, c.opts, c.headers...)
			b.ReportAllocs()
			for b.Loop() {
				consume()
			}
		})
	}
}

func TestTracesAllocateNothingForRecordsThatBelongToNone(t *testing.T) {
	allocations := func(opts Options) float64 { return testing.AllocsPerRun(2000, stages(t, opts)) }
	require.InDelta(t, allocations(Options{}), allocations(recordAll()), 0)
}
