package message

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/hook"
	"millrace/infra/panics"
)

const (
	// maxHooks bounds what all hooks together may take. With the time for finding repeats it lies below the 4.5 s after which
	// the gateway gives up.
	maxHooks = 2500 * time.Millisecond
	// hookFailures is how many calls in a row have to fail before a hook is left alone for hookPause. Then one call tries it.
	hookFailures = 3
	hookPause    = 5 * time.Second
)

// Reviewer decides on drafts before they are accepted. Calls come at the same time, and nothing keeps their order.
type Reviewer interface {
	// Review returns a verdict for each draft, in their order. It returns when the context ends.
	Review(ctx context.Context, drafts []hook.Draft) ([]hook.Verdict, error)
}

// Hook is a reviewer with the rules by which it is asked.
type Hook struct {
	Reviewer
	Name string
	// Rank orders the hooks: the lowest is asked first. A hook sees what those before it have let pass, as they have left it.
	Rank int
	// Timeout bounds a call.
	Timeout time.Duration
	// FailOpen lets drafts pass if the call fails. Otherwise they are refused as unavailable.
	FailOpen bool
}

// hooks asks one hook after the other. Without hooks it is nil.
type hooks struct {
	all   []*guarded
	log   *slog.Logger
	tasks *tasks
	calls *prometheus.HistogramVec
	done  *prometheus.CounterVec
	alone *prometheus.GaugeVec
}

// guarded is a hook with a breaker that leaves it alone after it has failed.
type guarded struct {
	Hook
	breaker *gobreaker.CircuitBreaker
}

func newHooks(all []Hook, t *tasks, reg prometheus.Registerer, log *slog.Logger) *hooks {
	if len(all) == 0 {
		return nil
	}
	h := &hooks{
		log: log, tasks: t,
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_hook_seconds", Help: "How long calls of a hook took, failed ones included.",
			Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10),
		}, []string{"hook"}),
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_hook_messages_total",
			Help: "Messages and edits that a hook was to decide on, by what came of it: passed, replaced or rejected, or open " +
				"or closed if the hook could not be asked.",
		}, []string{"hook", "outcome"}),
		alone: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_hook_left_alone", Help: "1 while a hook is not asked because it has failed several times in a row, else 0.",
		}, []string{"hook"}),
	}
	if reg != nil {
		reg.MustRegister(h.calls, h.done, h.alone)
	}
	for _, one := range all {
		for _, outcome := range []string{"passed", "replaced", "rejected", failOutcome(one.FailOpen)} {
			h.done.WithLabelValues(one.Name, outcome)
		}
		alone := h.alone.WithLabelValues(one.Name)
		h.all = append(h.all, &guarded{Hook: one, breaker: gobreaker.NewCircuitBreaker(gobreaker.Settings{
			Name: one.Name, Timeout: hookPause,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= hookFailures },
			OnStateChange: func(name string, from, to gobreaker.State) {
				log.Warn("breaker of a hook", "hook", name, "from", from.String(), "to", to.String())
				alone.Set(0)
				if to != gobreaker.StateClosed {
					alone.Set(1)
				}
			},
		})})
	}
	slices.SortStableFunc(h.all, func(a, b *guarded) int { return cmp.Compare(a.Rank, b.Rank) })
	return h
}

func failOutcome(open bool) string {
	if open {
		return "open"
	}
	return "closed"
}

// reviewed is a draft and what the hooks have decided.
type reviewed struct {
	hook.Draft
	given    *events.Message // as the sender gave it
	replaced bool            // Message is another
	decided  events.Decisions
	err      error     // why the draft is not accepted
	rejected bool      // err is the verdict of a hook and no failure
	first    *original // the draft repeats a message that was accepted, which neither a verdict nor a failure changes
}

// review asks the hooks, each with one call. It gives a draft that is replaced a message of its own. It does not end with the
// caller: a batch that has come is either accepted or refused, and nobody is there to see whether it was reviewed.
func (h *hooks) review(ctx context.Context, all []*reviewed) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxHooks)
	defer cancel()
	for _, g := range h.all {
		var left []*reviewed
		var drafts []hook.Draft
		for _, r := range all {
			if r.err == nil {
				left, drafts = append(left, r), append(drafts, r.Draft)
			}
		}
		if len(left) == 0 {
			return
		}
		verdicts, err := h.ask(ctx, g, drafts)
		if err != nil {
			h.done.WithLabelValues(g.Name, failOutcome(g.FailOpen)).Add(float64(len(left)))
			for _, r := range left {
				if !g.FailOpen {
					r.err = err
				}
			}
			continue
		}
		for i, r := range left {
			h.done.WithLabelValues(g.Name, r.apply(verdicts[i])).Inc()
		}
	}
}

// ask returns a valid verdict for each draft, unless the hook fails or its breaker is open.
func (h *hooks) ask(ctx context.Context, g *guarded, drafts []hook.Draft) (verdicts []hook.Verdict, err error) {
	_, err = g.breaker.Execute(func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, g.Timeout)
		defer cancel()
		began := time.Now()
		panicked := h.tasks.panics.Do(panics.Call, func() { verdicts, err = g.Review(ctx, drafts) })
		h.calls.WithLabelValues(g.Name).Observe(time.Since(began).Seconds())
		if err = cmp.Or(panicked, err); err == nil {
			err = checkVerdicts(verdicts, len(drafts))
		}
		if err != nil {
			h.log.WarnContext(ctx, "a hook has failed", "hook", g.Name, "messages", len(drafts), "error", err)
		}
		return nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("hook %s: %w", g.Name, err)
	}
	return verdicts, nil
}

func checkVerdicts(verdicts []hook.Verdict, want int) error {
	if len(verdicts) != want {
		return fmt.Errorf("%d verdicts on %d messages", len(verdicts), want)
	}
	for _, v := range verdicts {
		if !utf8.ValidString(v.Reject) || len(v.Reject) > maxReason {
			return fmt.Errorf("a reason is not text of at most %d bytes", maxReason)
		}
		content := cmp.Or(v.Content, "unchanged")
		if err := cmp.Or(checkContent(content, v.Extra), v.Extra.Validate()); err != nil {
			return fmt.Errorf("verdict: %w", errors.New(textOf(err))) // it is no fault of the sender
		}
	}
	return nil
}

// maxReason bounds the reason that a hook gives the sender.
const maxReason = 1024

// apply notes the verdict and returns its name in the metrics.
func (r *reviewed) apply(v hook.Verdict) string {
	r.decided.Add(v.Decisions)
	r.Tags = r.decided.Tags
	if v.Reject != "" {
		r.err, r.rejected = refuse(codes.FailedPrecondition, "%s", v.Reject), true
		return "rejected"
	}
	if v.Content == "" && v.Extra == nil {
		return "passed"
	}
	changed := *r.Message
	changed.Content = cmp.Or(v.Content, changed.Content)
	if v.Extra != nil {
		changed.Extra = v.Extra
	}
	if sameContent(&changed, r.Message) {
		return "passed"
	}
	r.Message, r.replaced = &changed, true
	return "replaced"
}

// sameContent reports whether the messages have the same content and extra.
func sameContent(a, b *events.Message) bool {
	return a.Content == b.Content && bytes.Equal(a.Extra, b.Extra)
}
