package storage

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
)

func TestACommitIsASpanOfTheFirstRecordAndLinkedToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := tracetest.NewInMemoryExporter()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer("test")
		store, taken, release := blockedStore()
		blocked := store.save
		var within trace.SpanContext
		store.save = func(ctx context.Context, batch []events.Record) []error {
			within = trace.SpanContextFromContext(ctx)
			return blocked(ctx, batch)
		}
		handle := start(t, store)
		var waiting sync.WaitGroup
		waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(9, 1))) })
		<-taken
		var spans []trace.Span
		for i := range int32(4) {
			ctx := t.Context()
			if i != 1 { // that one belongs to no trace
				var span trace.Span
				ctx, span = tracer.Start(ctx, "process")
				spans = append(spans, span)
			}
			waiting.Go(func() { assert.NoError(t, handle(ctx, record(i, 1))) })
		}
		synctest.Wait()
		close(release)
		waiting.Wait()

		require.Len(t, kept.GetSpans(), 1, "the first batch belongs to no trace")
		commit := kept.GetSpans()[0]
		require.Equal(t, "commit", commit.Name)
		require.Equal(t, within, commit.SpanContext)
		require.Equal(t, spans[0].SpanContext().SpanID(), commit.Parent.SpanID())
		require.Len(t, commit.Links, 2)
		require.Equal(t, spans[1].SpanContext(), commit.Links[0].SpanContext)
		require.Equal(t, spans[2].SpanContext(), commit.Links[1].SpanContext)
		require.Equal(t, codes.Unset, commit.Status.Code)
	})
}

func TestACommitThatDoesNotSaveEverythingIsAnError(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	ctx, _ := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer("test").Start(t.Context(), "process")
	handle := start(t, &fakeStore{save: func(context.Context, []events.Record) []error { return []error{errors.New("disk full")} }})
	require.Error(t, handle(ctx, record(0, 1)))
	require.Equal(t, codes.Error, kept.GetSpans()[0].Status.Code)
}

func TestACommitOfNoTraceCostsNothing(t *testing.T) {
	jobs := []*job{{ctx: t.Context()}, {ctx: t.Context()}}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, span := startCommit(jobs, 2)
		endCommit(span, nil)
	}))
}
