package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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

// Observation describes one delivery of a record to a handler.
type Observation struct {
	Handler string
	Outcome Outcome
	// Retries is how often the handler was called again after the first attempt.
	Retries int
	Took    time.Duration
	// Age is how old the record was by its own timestamp, which is in whole seconds. It is set for handled records only.
	Age time.Duration
}

// bundle is how many records of a partition the router takes at once.
const bundle = 128

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
	}
	c.stages = c.middleware(opts)
	return c
}

// unbundle is the outermost stage. It takes the records of a message in order and runs each through the other stages. If one
// fails, or the partition is being taken away, it gives the message back with the records that are left. In the end it has the
// handler note how far it has come. Where a batch leaves records, for example because the store is slow, it handles the first of
// them alone and then tries a batch again, the next time after two, then after four, and so on.
func (c *consumer) unbundle(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		records := c.bus.Records(msg)
		var ahead map[*message.Message]bool
		alone, batch := 0, 0
		var done events.Position
		for i, r := range records {
			if !ahead[r] && alone == batch {
				ahead = c.handleAhead(records[i:], ahead)
				batch = 2*batch + 1
			}
			if i > 0 && takenAway(msg) || !ahead[r] && !succeeds(next, r) {
				c.advance(msg.Context(), done)
				// The message is nacked here, because Watermill would log a line of its own for an error.
				msg.Nack()
				return nil, nil
			}
			if !ahead[r] {
				alone++
			}
			var err error
			if done, err = c.settle(r, i == len(records)-1); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

// handleAhead handles as a batch those of the records that were not handled ahead before, and returns all that are now.
func (c *consumer) handleAhead(records []*message.Message, before map[*message.Message]bool) map[*message.Message]bool {
	if len(before) == 0 {
		return c.handleBatch(records)
	}
	left := slices.DeleteFunc(slices.Clone(records), func(r *message.Message) bool { return before[r] })
	maps.Copy(before, c.handleBatch(left))
	return before
}

// takenAway reports whether the message's partition goes to another member, or the router is stopping.
func takenAway(msg *message.Message) bool { return msg.Context().Err() != nil }

// succeeds runs one record through the other stages and reports whether it is done with.
func succeeds(next message.HandlerFunc, r *message.Message) bool {
	_, err := next(r)
	return err == nil
}

// settle tells first the handler and then the bus that the record is done with, and returns its position. Of the last record of
// a message the handler first notes how far it has come.
func (c *consumer) settle(msg *message.Message, last bool) (events.Position, error) {
	pos, err := c.bus.Position(msg)
	if err != nil {
		return pos, fmt.Errorf("position: %w", err)
	}
	if c.Settled != nil {
		c.Settled(pos)
	}
	if last {
		c.advance(msg.Context(), pos)
	}
	msg.Ack()
	return pos, nil
}

// advance has the handler note that it is done with everything up to the position, if that is one.
func (c *consumer) advance(ctx context.Context, done events.Position) {
	if c.Advance == nil || done.Seq == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := c.Advance(ctx, done); err != nil {
		c.log.WarnContext(ctx, "the handler cannot note how far it has come", "partition", done.Partition, "seq", done.Seq, "error", err)
	}
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
		d := &delivery{Context: msg.Context(), Position: pos, place: place, correlation: correlation(msg)}
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
		c.logDone(d, msg, d.Position, d.outcome)
		if d.span != nil {
			d.endSpan(err)
		}
		c.observe(Observation{
			Handler: c.Name, Outcome: d.outcome, Retries: max(d.attempts-1, 0), Took: time.Since(begin), Age: age(d.timestamp),
		})
		return nil, err
	}
}

// logDone logs the end of a delivery where somebody debugs.
func (c *consumer) logDone(ctx context.Context, msg *message.Message, at events.Position, how Outcome) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.logger(&delivery{Position: at, correlation: correlation(msg)}).DebugContext(ctx, "record done", "outcome", string(how))
	}
}

// correlation returns the id that ties the record to the request which caused it. A foreign producer's id that is too long
// for log lines counts as none.
func correlation(msg *message.Message) string {
	id := msg.Metadata.Get(events.CorrelationHeader)
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
	r, outcome, err := c.read(msg.Context(), msg, d.Position, d.place)
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

// read decodes the record and says what is to become of it. Handled means that the handler has to handle it, unless it is a
// repeat.
func (c *consumer) read(ctx context.Context, msg *message.Message, pos, place events.Position) (events.Record, Outcome, error) {
	if replay := msg.Metadata.Get(ReplayHandlerHeader); replay != "" && replay != c.Name {
		return events.Record{}, Skipped, nil
	}
	if _, err := replayPosition(msg, place); err != nil {
		return events.Record{}, "", err
	}
	value, err := c.payload(ctx, msg, pos)
	if err != nil {
		return events.Record{}, "", err
	}
	topic, original, err := events.Original(c.Topic, pos, msg.Metadata)
	if err != nil {
		return events.Record{}, "", err
	}
	event, err := c.decoder.decode(topic, original, value)
	if err != nil {
		return events.Record{}, "", err
	}
	r := events.Record{Event: event, Position: pos, Replay: isReplay(msg), Value: value, Headers: ownHeaders(msg)}
	if topic != c.Topic {
		r.Origin = original
	}
	switch {
	case !r.Type.On(c.Topic) || c.Types != nil && !slices.Contains(c.Types, r.Type):
		return r, Skipped, nil
	case c.misplaced(&r):
		return r, "", errMisplaced
	}
	return r, Handled, nil
}

// misplaced reports whether the record lies outside the partition of its key, where its order would mean nothing.
func (c *consumer) misplaced(r *events.Record) bool {
	return events.Partition(r.Key(), c.partitions) != r.Partition
}
