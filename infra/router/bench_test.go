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

// benchBus knows the positions of messages.
type benchBus struct{ pubsub.Bus }

func (benchBus) Position(msg *message.Message) (events.Position, error) {
	at, _ := pubsub.Received(msg)
	return at, nil
}

// stages returns a function that takes a bundle through the stages to the handler, without Watermill's goroutine.
func stages(b testing.TB, h events.Handler, opts Options) func(*pubsub.Bundle) {
	opts.Observe = func(o Observation) {
		if o.Outcome != Handled && h.Types == nil {
			b.Fatal(o)
		}
	}
	h.Name, h.Topic = "bench", events.TopicMessages
	h.Handle = func(context.Context, events.Record) error { return nil }
	c := newConsumer(benchBus{}, h, newDecoder(), opts.withDefaults(), slog.New(slog.DiscardHandler))
	c.partitions = 64
	consume := message.HandlerFunc(func(msg *message.Message) ([]*message.Message, error) { return nil, c.handle(msg) })
	for _, stage := range slices.Backward(c.stages) { // as Watermill does
		consume = stage(consume)
	}
	return func(bundle *pubsub.Bundle) {
		bundle.Done(0)
		msg := message.NewMessageWithContext(pubsub.WithBundle(b.Context(), bundle), "", nil)
		if _, err := consume(msg); err != nil {
			b.Fatal(err)
		}
		if bundle.Acknowledged() != len(bundle.Records) {
			b.Fatal(bundle.Acknowledged())
		}
	}
}

// newBundles returns a function that makes bundles of so many records, 100-byte messages with the headers. Each comes after the
// one before.
func newBundles(records int, headers events.HeaderMap) func() *pubsub.Bundle {
	content := strings.Repeat("x", 100)
	at := events.Position{Partition: events.Partition("u:1:2", 64)}
	return func() *pubsub.Bundle {
		bundle := &pubsub.Bundle{Records: make([]pubsub.RawRecord, records)}
		for i := range bundle.Records {
			at.Seq++
			bundle.Records[i] = pubsub.RawRecord{Position: at, Headers: benchHeaders{headers}, Value: []byte(
				`{"type":"new_message","message":{"message_id":"m` + strconv.FormatInt(at.Seq, 10) +
					`","client_msg_id":"c","conversation":"u:1:2","from":1,"to":2,"content":"` + content +
					`","message_type":1,"timestamp":1642678800},"timestamp":1642678800}`,
			)}
		}
		return bundle
	}
}

type benchHeaders struct{ events.HeaderMap }

func (benchHeaders) ID() string { return "" }

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
		headers events.HeaderMap
	}{
		{"no tracer", Options{}, nil},
		{"a tracer, no trace", recordAll(), nil},
		{"recorded", recordAll(), events.HeaderMap{"traceparent": benchParent}},
	} {
		b.Run(c.name, func(b *testing.B) {
			consume, next := stages(b, events.Handler{}, c.opts), newBundles(1, c.headers)
			b.ReportAllocs()
			for b.Loop() {
				consume(next())
			}
		})
	}
}

// BenchmarkBatch measures what a bundle of 128 records that another handler has decoded before costs one that takes batches,
// and one that takes only other types.
func BenchmarkBatch(b *testing.B) {
	all := events.Handler{HandleBatch: func(_ context.Context, records []events.Record) []error { return make([]error, len(records)) }}
	none := all
	none.Types = events.GroupChanges()
	for name, h := range map[string]events.Handler{"taken": all, "skipped": none} {
		b.Run(name, func(b *testing.B) {
			consume := stages(b, h, Options{})
			bundle := newBundles(128, events.HeaderMap{events.TypeHeader: string(events.NewMessage)})()
			consume(bundle)
			b.ReportAllocs()
			for b.Loop() {
				consume(bundle)
			}
		})
	}
}

func TestTracesAllocateNothingForRecordsThatBelongToNone(t *testing.T) {
	allocations := func(opts Options) float64 {
		consume, next := stages(t, events.Handler{}, opts), newBundles(1, nil)
		return testing.AllocsPerRun(2000, func() { consume(next()) })
	}
	require.InDelta(t, allocations(Options{}), allocations(recordAll()), 0)
}

// BenchmarkMarks measures what marks of 128 new events cost where there are as many as are kept.
func BenchmarkMarks(b *testing.B) {
	marks := NewMarks(100_000)
	ids, all := make([]string, 128), make([]Mark, 128)
	next := func() {
		for i := range ids {
			ids[i] = events.EventID(events.NewMessage, strconv.FormatInt(all[len(all)-1].At.Seq, 10), strconv.Itoa(i))
		}
		for i := range all {
			all[i] = Mark{ids[i], events.Position{Seq: all[len(all)-1].At.Seq + int64(i) + 1}}
		}
	}
	for range 100_000 / len(ids) {
		next()
		marks.Mark(b.Context(), all...)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		next()
		b.StartTimer()
		marks.Marked(b.Context(), ids...)
		marks.Mark(b.Context(), all...)
	}
}

// BenchmarkDecoder measures what the first of the handlers pays for a record.
func BenchmarkDecoder(b *testing.B) {
	d, r := newDecoder(), newBundles(1, nil)().Records[0]
	b.ReportAllocs()
	for b.Loop() {
		r.Seq++
		if _, err := d.decode(events.TopicMessages, r.Position, r.Value); err != nil {
			b.Fatal(err)
		}
	}
}
