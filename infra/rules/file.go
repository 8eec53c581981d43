package rules

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/hook"
)

// lookPause is how often the file is read. Reading finds every way to change it, also that of a ConfigMap, which swaps a
// symbolic link to a directory.
const lookPause = 2 * time.Second

// File keeps the rules as a file has them. While the file is wrong or cannot be read the former rules stay.
type File struct {
	path    string
	prepare func(*Set) error
	log     *slog.Logger
	current atomic.Pointer[Set]
	state   atomic.Pointer[State] // without rules
	read    []byte                // what was read last
	said    string                // what was wrong with it

	valid   prometheus.Gauge
	matched *prometheus.CounterVec
	failed  *prometheus.CounterVec
}

// Open reads the file, and registers metrics. It fails if the file is wrong. Run watches it. Rules take effect after prepare has
// returned nil for them. It may block, and it is called again and again while it fails.
func Open(path string, prepare func(*Set) error, reg prometheus.Registerer, log *slog.Logger) (*File, error) {
	f := &File{
		path: path, prepare: prepare, log: log,
		valid: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_rules_valid", Help: "1, or 0 while the file of rules is wrong or cannot be read and the former rules hold.",
		}),
		matched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_rule_matches_total", Help: "Messages and edits that a rule has matched.",
		}, []string{"rule"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_rule_failures_total",
			Help: "Messages and edits that a rule has not matched because its condition could not be evaluated.",
		}, []string{"rule"}),
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	reg.MustRegister(f.valid, f.matched, f.failed)
	return f, nil
}

// Run looks for changes of the file until the context ends.
func (f *File) Run(ctx context.Context) error {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.look()
		}
	}
}

// look loads the file, and says what is wrong with it once.
func (f *File) look() {
	said := ""
	if err := f.load(); err != nil {
		said = err.Error()
	}
	if said != f.said && said != "" {
		f.log.Error("the rules are wrong, the former ones hold", "file", f.path, "error", said)
	}
	f.said = said
}

// load takes the rules of the file if they have changed.
func (f *File) load() error {
	data, err := os.ReadFile(f.path)
	if err == nil && f.current.Load() != nil && bytes.Equal(data, f.read) && f.said == "" {
		return nil
	}
	var set *Set
	if err == nil {
		f.read = data
		set, err = Parse(data)
	}
	if err == nil {
		err = f.prepare(set)
	}
	if err != nil {
		err = fmt.Errorf("rules in %s: %w", f.path, err)
		f.valid.Set(0)
		if former := f.state.Load(); former != nil {
			f.state.Store(&State{Path: f.path, Loaded: former.Loaded, Fault: err.Error()})
		}
		return err
	}
	f.valid.Set(1)
	names := set.Names()
	if former := f.current.Load(); former != nil {
		set.rates = set.rates.or(former.rates)
		for _, name := range former.Names() {
			if !slices.Contains(names, name) {
				f.matched.DeleteLabelValues(name)
				f.failed.DeleteLabelValues(name)
			}
		}
	}
	for _, name := range names {
		f.matched.WithLabelValues(name)
		f.failed.WithLabelValues(name)
	}
	f.current.Store(set)
	f.state.Store(&State{Path: f.path, Loaded: time.Now()})
	f.log.Info("rules loaded", "file", f.path, "rules", len(names))
	return nil
}

// Review decides on drafts by the rules.
func (f *File) Review(_ context.Context, drafts []hook.Draft) ([]hook.Verdict, error) {
	set, now := f.current.Load(), time.Now()
	verdicts := make([]hook.Verdict, len(drafts))
	for i, d := range drafts {
		result := set.Evaluate(Subject{Draft: d, At: now})
		f.count(&result)
		verdicts[i] = result.Verdict
	}
	return verdicts, nil
}

func (f *File) count(r *Result) {
	for _, name := range r.Matched {
		f.matched.WithLabelValues(name).Inc()
	}
	for name := range r.Failed {
		f.failed.WithLabelValues(name).Inc()
	}
}
