package connect

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// recording returns a tracer and where its spans are kept.
func recording() (*telemetry.Tracer, *tracetest.InMemoryExporter) {
	kept := tracetest.NewInMemoryExporter()
	return telemetry.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept))), kept
}

// sink is a connection whose writes end with the error.
type sink struct {
	net.Conn
	err error
}

func (s sink) Write(b []byte) (int, error)    { return len(b), s.err }
func (sink) SetWriteDeadline(time.Time) error { return nil }
func (sink) Close() error                     { return nil }

// room is a hub whose sessions, each of another user, are all in group 7. Nothing is written until writeAll.
type room struct {
	*hub
	writers []func()
}

func newRoom(t *testing.T, tracer *telemetry.Tracer, sessions int, err error) *room {
	r := &room{hub: newHub(t.Context(), Config{Tracer: tracer}.withDefaults(), nil, newMetrics(nil, nil), slog.New(slog.DiscardHandler))}
	for user := range int64(sessions) {
		out := &outbox{
			conn: sink{err: err}, maxFrames: 100, maxBytes: 1 << 20, timeout: time.Second, done: make(chan struct{}),
			spawn: func(write func()) { r.writers = append(r.writers, write) }, writers: &writers{},
		}
		sub := &subscriber{session: &session{out: out}, user: user + 1}
		r.join(sub, []*millracev1.Membership{{GroupId: 7}})
		sub.buffering = false
	}
	r.learnt(map[int32]int64{0: 0})
	r.wg.Wait() // until the sessions were told of it
	for _, sub := range r.sessions {
		sub.buffering, sub.skipped = false, nil
	}
	return r
}

// delivers passes the hub a delivery to group 7.
func (r *room) delivers(seq int64, c *millracev1.TraceContext) {
	d := &millracev1.Delivery{Seq: seq, Channels: []string{events.Group(7)}, Push: []byte("push"), Trace: c}
	r.span(nil, &millracev1.Span{After: seq - 1, Through: seq, Deliveries: []*millracev1.Delivery{d}})
}

func (r *room) writeAll() {
	for _, write := range r.writers {
		write()
	}
	r.writers = nil
}

var handled = &millracev1.TraceContext{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} //nolint:gochecknoglobals // never changed

func TestADeliveryIsASpanUntilItWasWrittenToTheSocket(t *testing.T) {
	for name, broken := range map[string]error{"in order": nil, "a broken connection": errors.New("connection reset")} {
		t.Run(name, func(t *testing.T) {
			tracer, kept := recording()
			r := newRoom(t, tracer, 1, broken)
			r.delivers(1, handled)
			require.Empty(t, kept.GetSpans())
			r.writeAll()
			require.Len(t, kept.GetSpans(), 1)
			span := kept.GetSpans()[0]
			require.Equal(t, "deliver", span.Name)
			require.Equal(t, "00f067aa0ba902b7", span.Parent.SpanID().String())
			require.Contains(t, span.Attributes, attribute.String("user.id", "1"))
			require.Contains(t, span.Attributes, attribute.Int("messaging.kafka.offset", 0))
			require.Equal(t, broken != nil, span.Status.Code == codes.Error)
		})
	}
}

func TestALargeGroupHasFewSpansOfADelivery(t *testing.T) {
	tracer, kept := recording()
	r := newRoom(t, tracer, 100, nil)
	r.delivers(1, handled)
	r.delivers(2, nil)
	r.writeAll()
	require.Len(t, kept.GetSpans(), maxDelivered)
	r.delivers(3, handled)
	r.writeAll()
	require.Len(t, kept.GetSpans(), 2*maxDelivered)
}

func TestADeliveryThatWaitsBehindWhatASessionMissedKeepsItsSpan(t *testing.T) {
	tracer, kept := recording()
	r := newRoom(t, tracer, 1, nil)
	sub := r.sessions[0]
	sub.buffering = true
	r.delivers(1, handled)
	f := &feed{sub: sub, gw: &Gateway{hub: r.hub}, reached: map[int32]int64{}, known: true, told: true}
	pushes, _, done := f.unbuffer()
	require.False(t, done)
	for _, push := range pushes {
		require.True(t, f.writeFrame(t.Context(), push))
	}
	require.Empty(t, kept.GetSpans())
	r.writeAll()
	require.Len(t, kept.GetSpans(), 1)
}

func TestTracesThatAreOffCostNothing(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(outFrame{}), uintptr(40), "as many bytes as without a span")
	s := &session{gw: &Gateway{}}
	ctx := context.Background()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, span := s.startSpan(ctx, request{id: 1, verb: "send"})
		endSpan(span, nil)
	}))
	delivering := func(tracer *telemetry.Tracer) float64 {
		r := newRoom(t, tracer, 10, nil)
		seq := int64(0)
		return testing.AllocsPerRun(100, func() {
			seq++
			r.delivers(seq, nil)
			r.writeAll()
		})
	}
	tracer, _ := recording()
	require.InDelta(t, delivering(nil), delivering(tracer), 1) // queues grow now and then
}

func TestTheRepeatOfAChangeIsKnownThoughItBelongsToAnotherTrace(t *testing.T) {
	asked := func(c *millracev1.TraceContext) *outgoing {
		return &outgoing{verb: "send", change: millracev1.Change{
			Trace: c, Kind: &millracev1.Change_Send{Send: &millracev1.SendWSMessageRequest{To: 2, Content: "again", ClientMsgId: newID(), Trace: c}},
		}}
	}
	require.True(t, asked(handled).repeats(asked(nil)))
}

func TestARequestIsASpanWithItsOutcomeAndWithoutItsContent(t *testing.T) {
	for _, test := range []struct {
		refused *refusal
		result  string
		failed  bool
	}{
		{nil, "ok", false},
		{refuse(codeDenied, "no"), codeDenied, false},
		{unavailable(), codeUnavailable, true},
		{refuse(codeInternal, "oh"), codeInternal, true},
	} {
		tracer, kept := recording()
		s := &session{id: "session", gw: &Gateway{cfg: Config{Tracer: tracer}}}
		s.identity.User = 1001
		_, span := s.startSpan(t.Context(), request{id: 7, verb: "send", body: []byte(`{"content":"private"}`)})
		endSpan(span, test.refused)
		got := kept.GetSpans()[0]
		require.Equal(t, "send", got.Name)
		require.Equal(t, trace.SpanKindServer, got.SpanKind)
		require.ElementsMatch(t, []attribute.KeyValue{
			attribute.String("correlation_id", "session-7"), attribute.String("user.id", "1001"), attribute.String("millrace.result", test.result),
		}, got.Attributes)
		require.Equal(t, test.failed, got.Status.Code == codes.Error)
		require.False(t, strings.Contains(got.Status.Description, "private"))
	}
}
