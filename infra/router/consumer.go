package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// Outcome says how the delivery of a record ended.
type Outcome string

// The outcomes. All but Failed settle the record.
const (
	Handled  Outcome = "handled"
	Repeated Outcome = "repeated" // it repeats an event that was handled before
	Skipped  Outcome = "skipped"  // its type is unknown or not one of the handler's, or it is a replay for another handler
	Poisoned Outcome = "poisoned" // it is in the poison queue, for good or because it was stuck
	Failed   Outcome = "failed"   // it was given back and comes again
)

// Observation describes one delivery of a record to a handler, or those of a batch that are alike.
type Observation struct {
	Handler string
	Outcome Outcome
	// Records is how many deliveries it describes. Took is then the share that each has in what the batch took.
	Records int
	// Retries is how often the handler was called again after the first attempt.
	Retries int
	Took    time.Duration
	// Age is how old the record was by its own timestamp, which is in whole seconds. It is set for handled records only.
	Age time.Duration
}

// bundle is how many records of a partition the router takes at once.
const bundle = 512

// consumer takes the records of one handler through the stages.
type consumer struct {
	events.Handler
	bus        pubsub.Bus
	marks      Marks
	failures   *failures
	timeout    time.Duration
	observe    func(Observation)
	log        *slog.Logger
	decoder    *decoder
	tracer     *telemetry.Tracer
	partitions int32
	batches    bool // whether the handler gets batches
	copies     bool // whether the topic's records may be copies
	stages     []message.HandlerMiddleware
}

func newConsumer(bus pubsub.Bus, h events.Handler, decoder *decoder, opts Options, log *slog.Logger) *consumer {
	c := &consumer{
		Handler: h, bus: bus, decoder: decoder, marks: opts.Marks(h.Name), timeout: cmp.Or(h.Timeout, opts.Timeout), observe: opts.Observe,
		tracer:   opts.Tracer,
		failures: &failures{patience: opts.StuckAfter, records: make(map[int32]*failure)},
		log:      log.With("handler", h.Name, "topic", h.Topic),
		// The user's own middleware must see every single record before the handler does, and may change or refuse it.
		batches: h.HandleBatch != nil && len(opts.Middleware) == 0,
		copies:  events.IsRoute(h.Topic) || h.Topic == events.TopicGroups,
	}
	c.stages = c.middleware(opts)
	return c
}

// start finds out how many partitions the topic has. If that is not known, every record would look misplaced.
func (c *consumer) start() error {
	c.partitions = c.bus.Log(c.Topic).Partitions()
	if c.partitions < 1 {
		return fmt.Errorf("handler %s: topic %s has no partitions", c.Name, c.Topic)
	}
	return nil
}

// middleware returns the stages, the outermost first.
func (c *consumer) middleware(opts Options) []message.HandlerMiddleware {
	retry := middleware.Retry{
		MaxRetries:      max(opts.Retries, 0),
		InitialInterval: opts.RetryPause,
		MaxInterval:     20 * opts.RetryPause,
		// Each retry takes two steps of the backoff, one of them for ShouldRetry, so that the pauses double.
		Multiplier:          1.4,
		RandomizationFactor: 0.5,
		ResetContextOnRetry: true,
		ShouldRetry:         func(p middleware.RetryParams) bool { return !isPermanent(p.Err) },
	}
	stages := []message.HandlerMiddleware{
		c.unbundle, c.finish, c.poison, c.park, retry.Middleware, detach, middleware.Timeout(c.timeout), middleware.Recoverer,
	}
	return append(stages, opts.Middleware...)
}

// delivery is what the stages share about a record. It is the message's context from the first stage on.
type delivery struct {
	context.Context //nolint:containedctx // it is one

	events.Position                 // of the record, or of the original if it is a replay
	place           events.Position // where the record lies in the log
	correlation     string
	outcome         Outcome
	attempts        int
	timestamp       int64
	span            trace.Span // nil unless the record belongs to a trace that is recorded
}

type deliveryKey struct{}

// Value implements context.Context.
func (d *delivery) Value(key any) any {
	if key == (deliveryKey{}) {
		return d
	}
	return d.Context.Value(key)
}

func deliveryOf(msg *message.Message) *delivery {
	return msg.Context().Value(deliveryKey{}).(*delivery) //nolint:errcheck,forcetypeassert // finish has put it there
}

func (c *consumer) logger(d *delivery) *slog.Logger {
	log := c.log.With("partition", d.Partition, "seq", d.Seq)
	if d.correlation != "" {
		log = log.With(events.CorrelationHeader, d.correlation)
	}
	return log
}

// finish reports the observation, and logs why a record is given back.
func (c *consumer) finish(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		begin := time.Now()
		pos, err := c.bus.Position(msg)
		if err != nil {
			return nil, fmt.Errorf("position: %w", err)
		}
		place := pos
		// A malformed replay position is reported where the record is read.
		if at, err := replayPosition(msg, place); err == nil && at != nil {
			pos = *at
		}
		d := &delivery{Context: msg.Context(), Position: pos, place: place, correlation: correlation(msg.Metadata)}
		if d.correlation != "" {
			d.Context = events.WithCorrelation(d.Context, d.correlation)
		}
		if c.tracer != nil {
			d.Context, d.span = c.startSpan(d.Context, msg, place)
		}
		msg.SetContext(d)

		if _, err = next(msg); err != nil {
			d.outcome = Failed
			if !errors.Is(err, context.Canceled) {
				c.logger(d).WarnContext(d, "record failed, it comes again", "attempts", d.attempts, "error", err)
			}
		}
		c.logDone(d, d.correlation, d.Position, d.outcome)
		if d.span != nil {
			d.endSpan(err)
		}
		c.observe(Observation{
			Handler: c.Name, Outcome: d.outcome, Records: 1, Retries: max(d.attempts-1, 0), Took: time.Since(begin), Age: age(d.timestamp),
		})
		return nil, err
	}
}

// logDone logs the end of a delivery where somebody debugs.
func (c *consumer) logDone(ctx context.Context, correlation string, at events.Position, how Outcome) {
	if c.debugs(ctx) {
		c.logger(&delivery{Position: at, correlation: correlation}).DebugContext(ctx, "record done", "outcome", string(how))
	}
}

func (c *consumer) debugs(ctx context.Context) bool { return c.log.Enabled(ctx, slog.LevelDebug) }

// correlation returns the id that ties the record to the request which caused it. A foreign producer's id that is too long
// for log lines counts as none.
func correlation(headers interface{ Get(name string) string }) string {
	id := headers.Get(events.CorrelationHeader)
	if len(id) > maxCorrelationBytes {
		return ""
	}
	return id
}

const maxCorrelationBytes = 128

func age(timestamp int64) time.Duration { return time.Since(time.Unix(timestamp, 0)) }

// detach gives the handler a context that goes on when the router stops, so that no work ends half done.
func detach(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		msg.SetContext(context.WithoutCancel(msg.Context()))
		return next(msg)
	}
}

// handle is the innermost stage: it decodes the record, skips repeats and calls the handler.
func (c *consumer) handle(msg *message.Message) error {
	d := deliveryOf(msg)
	d.attempts++
	if d.span != nil && d.attempts > 1 {
		d.span.AddEvent("retry", trace.WithAttributes(attribute.Int("millrace.attempt", d.attempts)))
	}
	r, outcome, err := c.readAlone(msg, d)
	if err != nil {
		return err
	}
	if outcome == Handled && r.Replay && c.NoReplay != "" {
		return events.Permanent(fmt.Errorf("replay refused: %s", c.NoReplay))
	}
	if outcome == Handled && repeats(&r, c.marks.Marked(msg.Context(), r.EventID)[0]) {
		outcome = Repeated
	}
	d.timestamp = r.Timestamp
	if d.outcome = outcome; outcome != Handled {
		return nil
	}
	if d.span != nil {
		r.Trace = telemetry.ContextOf(d.span)
	}
	if err := c.Handle(msg.Context(), r); err != nil {
		if d.span != nil {
			d.span.RecordError(err)
		}
		return err
	}
	c.marks.Mark(msg.Context(), Mark{r.EventID, r.Position})
	return nil
}
