package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/infra/config"
	"millrace/infra/telemetry"
	apiv1 "millrace/proto/millrace/api/v1"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// recorder keeps the spans that the parts of the test's processes have ended.
type recorder struct{ *tracetest.InMemoryExporter }

// record makes every part of a process record all of its traces.
func record() (recorder, fx.Option) {
	r := recorder{tracetest.NewInMemoryExporter()}
	tracer := telemetry.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(r)))
	return r, fx.Decorate(func(*telemetry.Tracer) *telemetry.Tracer { return tracer })
}

// of returns the ended spans of the trace.
func (r recorder) of(id trace.TraceID) tracetest.SpanStubs {
	return slices.DeleteFunc(r.GetSpans(), func(s tracetest.SpanStub) bool { return s.SpanContext.TraceID() != id })
}

// path returns the names of the span's ancestors and its own, with the handlers' names.
func path(all tracetest.SpanStubs, s tracetest.SpanStub) string {
	name := s.Name
	for _, a := range s.Attributes {
		if a.Key == "millrace.handler" {
			name += " by " + a.Value.AsString()
		}
	}
	for _, parent := range all {
		if parent.SpanContext.SpanID() == s.Parent.SpanID() {
			return path(all, parent) + " > " + name
		}
	}
	if s.Parent.IsValid() {
		return "? > " + name
	}
	return name
}

func paths(all tracetest.SpanStubs) (paths []string) {
	for _, s := range all {
		paths = append(paths, path(all, s))
	}
	slices.Sort(paths)
	return paths
}

// root returns the request of the verb that ended last.
func (r recorder) root(t *testing.T, verb string) tracetest.SpanStub {
	t.Helper()
	var found tracetest.SpanStub
	proof.Await(t, func() bool {
		for _, s := range r.GetSpans() {
			if s.Name == verb && !s.Parent.IsValid() {
				found = s
			}
		}
		return found.Name != ""
	}, "a span of the "+verb)
	return found
}

func TestEndToEndOneTraceLeadsFromTheSocketThroughEveryHandlerToTheSocketsOfTwoGateways(t *testing.T) {
	besideOthers(t)
	recorded, traced := record()
	d := startDevWith(t, t.TempDir(), traced)
	var other *gatewayServer
	stop := startInside(t, config.Connect, fx.Options(traced, fx.Populate(&other)),
		"--connect-addr=127.0.0.1:0", "--jwt-secret="+proof.Secret, "--message-addrs="+d.grpc.Addr())
	defer stop()
	a := proof.Join(t, d.url(), proof.Alice, nil)
	b := proof.Join(t, "ws://"+other.Addr()+"/ws", proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "private words")
	require.Equal(t, []string{"private words"}, b.Reads(t, 1))

	const node = "send > millrace.v1.MessageService/SendBatches > millrace.v1.MessageService/SendBatches"
	const published = node + " > publish message-events"
	want := []string{
		"send",
		"send > millrace.v1.MessageService/SendBatches",
		node,
		published,
		published + " > process message-events by audit",
		published + " > process message-events by groups",
		published + " > process message-events by push",
		published + " > process message-events by push > deliver",
		published + " > process message-events by push > deliver",
		published + " > process message-events by storage",
		published + " > process message-events by storage > commit",
	}
	send := recorded.root(t, "send")
	proof.Await(t, func() bool { return len(recorded.of(send.SpanContext.TraceID())) >= len(want) }, "all spans")
	whole := recorded.of(send.SpanContext.TraceID())
	require.Equal(t, want, paths(whole))
	var receivers []string
	for _, s := range whole {
		for _, a := range s.Attributes {
			require.NotContains(t, a.Value.String(), "private", "%s %s", s.Name, a.Key)
			if s.Name == "deliver" && a.Key == "user.id" {
				receivers = append(receivers, a.Value.String())
			}
		}
	}
	require.ElementsMatch(t, []string{"1001", "1002"}, receivers)

	header := headerOf(consume(t, d.brokers, events.TopicMessages, 1)[0], "traceparent")
	require.True(t, strings.HasPrefix(header, "00-"+send.SpanContext.TraceID().String()), header)

	_, err := a.Group(t.Context(), client.GroupCreate{Name: "a name", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	b.Sees(t, string(events.GroupCreated))
	create := recorded.root(t, "group_create").SpanContext.TraceID()
	proof.Await(t, func() bool {
		got := strings.Join(paths(recorded.of(create)), "\n")
		return strings.Contains(got, "by push > deliver") && strings.Contains(got, "by groups")
	}, "a change of a group is a trace as well")
}

// While the store takes its time, records of several traces wait, and are saved together.
func TestEndToEndWhatIsSavedTogetherStaysInItsTraceAndIsLinked(t *testing.T) {
	besideOthers(t)
	recorded, traced := record()
	slow := make(chan struct{})
	d := startDevWith(t, t.TempDir(), traced, fx.Decorate(func(w storage.Store) storage.Store { return &heldStore{w, slow} }))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	const n = 20
	for _, content := range proof.Numbered(0, n) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	require.Equal(t, proof.Numbered(0, n), b.Reads(t, n))
	close(slow)

	var linked tracetest.SpanStub
	proof.Await(t, func() bool {
		stored := map[trace.TraceID]bool{}
		for _, s := range recorded.GetSpans() {
			if s.Name == "process batch message-events" && slices.Contains(s.Attributes, handlerName("storage")) {
				linked = s
			}
			if s.Name == "process message-events" && slices.Contains(s.Attributes, handlerName("storage")) {
				stored[s.SpanContext.TraceID()] = true
			}
		}
		return linked.Name != "" && len(stored) == n
	}, "every trace has its own span of storage")
	for _, link := range linked.Links {
		require.NotEqual(t, linked.SpanContext.TraceID(), link.SpanContext.TraceID())
		require.Contains(t, strings.Join(paths(recorded.of(link.SpanContext.TraceID())), "\n"), "by storage")
	}
	require.NotEmpty(t, linked.Links)
}

func TestEndToEndWithoutAnExporterNothingIsTraced(t *testing.T) {
	besideOthers(t)
	var tracer *telemetry.Tracer
	d := startDevWith(t, t.TempDir(), fx.Populate(&tracer))
	require.Nil(t, tracer)
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "hello")
	require.Equal(t, []string{"hello"}, b.Reads(t, 1))
	for _, header := range consume(t, d.brokers, events.TopicMessages, 1)[0].Headers {
		require.NotContains(t, header.Key, "trace")
	}
}

func handlerName(name string) attribute.KeyValue { return attribute.String("millrace.handler", name) }

// heldStore saves nothing until the channel is closed.
type heldStore struct {
	storage.Store
	until chan struct{}
}

func (s *heldStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	select {
	case <-s.until:
	case <-ctx.Done():
	}
	return s.Store.SaveBatch(ctx, batch)
}

func TestEndToEndAMessageOfABackendBelongsToTheTraceOfTheBackend(t *testing.T) {
	besideOthers(t)
	recorded, traced := record()
	d := startDevWith(t, t.TempDir(), traced)
	b := proof.Join(t, d.url(), proof.Bob, nil)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	byHTTP := map[string]string{"traceparent": "00-" + id + "-00f067aa0ba902b7-01"}
	conn, err := grpc.NewClient(d.api.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.api.listener.Addr().String()+"/v1/messages",
		strings.NewReader(`{"from":1001,"to":1002,"content":"by HTTP"}`))
	require.NoError(t, err)
	for name, value := range byHTTP {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	_, err = apiv1.NewApiServiceClient(conn).SendMessage(metadata.NewOutgoingContext(t.Context(), metadata.New(byHTTP)),
		&apiv1.SendMessageRequest{From: proof.Alice, To: proof.Bob, Content: "by gRPC"})
	require.NoError(t, err)
	require.Equal(t, []string{"by HTTP", "by gRPC"}, b.Reads(t, 2))

	trace, err := trace.TraceIDFromHex(id)
	require.NoError(t, err)
	const delivered = "? > millrace.api.v1.ApiService/SendMessage > publish message-events > process message-events by push > deliver"
	proof.Await(t, func() bool {
		n := 0
		for _, p := range paths(recorded.of(trace)) {
			if p == delivered {
				n++
			}
		}
		return n == 2
	}, "both go from the backend's span to Bob's socket")
}
