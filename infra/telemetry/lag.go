package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	lagInterval = time.Second
	lagTimeout  = 3 * time.Second
	// othersInterval is how often a process asks for groups that it does not run itself.
	othersInterval = 10 * time.Second
	// maxEnds bounds the memory for a lag that lasts. Beyond it every other measurement is dropped, so the older a lag is,
	// the less precise is its age.
	maxEnds = 1024
)

// Lag measures once a second how far consumer groups are behind the end of a topic, in records and in time, and how many
// records open transactions hold back, which do not count as lag.
type Lag struct {
	log    pubsub.Log
	groups []string
	others func(context.Context) ([]string, error)
	found  []string  // what others has returned last; they have series only while they have committed something
	asked  time.Time // when that was
	errors prometheus.Counter
	record *prometheus.GaugeVec
	age    *prometheus.GaugeVec
	open   *openTransactions
	logger *slog.Logger

	mu   sync.Mutex // of what follows, which Run alone changes
	ends []ends     // ascending in time; only the first is older than what the group furthest behind has yet to commit
	// By group, as they were measured last.
	ages      map[string]time.Duration
	committed map[string]map[int32]int64
}

// ends is where the topic's partitions ended at a time.
type ends struct {
	at  time.Time
	seq map[int32]int64
}

// NewLag returns the measurement for groups that read the topic, and for the others that a function finds, which may be nil:
// these have series only while the broker knows of something that they have committed. All processes that measure a group
// see the same: take the maximum.
func NewLag(
	reg prometheus.Registerer, topic string, log pubsub.Log, groups []string, others func(context.Context) ([]string, error), logger *slog.Logger,
) *Lag {
	labels := prometheus.Labels{"topic": topic}
	l := &Lag{
		log: log, groups: groups, others: others, open: newOpenTransactions(reg, topic, log), logger: logger,
		ages: make(map[string]time.Duration), committed: make(map[string]map[int32]int64),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_consumer_lag_errors_total", Help: "Attempts to learn the lag that failed.", ConstLabels: labels,
		}),
		record: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_consumer_lag_records", Help: "Records of the partition that the group has yet to commit.", ConstLabels: labels,
		}, []string{"group", "partition"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_consumer_lag_seconds", ConstLabels: labels,
			Help: "For how long at least the oldest record that the group has yet to commit has been in the log, to the second, as far as this process has watched.",
		}, []string{"group"}),
	}
	reg.MustRegister(l.errors, l.record, l.age)
	return l
}

// Age returns for how long at least the oldest record that the group has yet to commit has been in the log, as far as this
// process has watched. It reports false if that was not measured.
func (l *Lag) Age(group string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	age, measured := l.ages[group]
	return age, measured
}

// PartitionAges returns, as Age does, how old the oldest record of each partition is that the group has yet to commit. Partitions
// in which it has committed everything are absent.
func (l *Lag) PartitionAges(group string) (ages map[int32]time.Duration, measured bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	committed, measured := l.committed[group]
	if !measured {
		return nil, false
	}
	ages = make(map[int32]time.Duration)
	latest := l.ends[len(l.ends)-1]
	for partition, seq := range latest.seq {
		if seq <= committed[partition] {
			continue
		}
		first := sort.Search(len(l.ends)-1, func(i int) bool { return l.ends[i].seq[partition] > committed[partition] })
		ages[partition] = latest.at.Sub(l.ends[first].at)
	}
	return ages, true
}

// Run measures until the context ends.
func (l *Lag) Run(ctx context.Context) error {
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	for {
		if err := l.measure(ctx, time.Now()); err != nil && ctx.Err() == nil {
			l.errors.Inc()
			l.logger.Debug("consumer lag unknown", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Lag) measure(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	if err := l.open.measure(ctx, now); err != nil {
		return err
	}
	end, err := l.log.End(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.ends = append(l.ends, ends{now, end})
	l.mu.Unlock()
	oldest := len(l.ends) - 1
	if err := l.findOthers(ctx, now); err != nil {
		return err
	}
	for _, group := range slices.Concat(l.groups, l.found) {
		committed, err := l.log.Committed(ctx, group)
		if err != nil {
			return err
		}
		if !slices.Contains(l.groups, group) && !hasCommitted(committed) {
			l.forget(group)
			continue
		}
		for partition, seq := range end {
			l.record.WithLabelValues(group, strconv.Itoa(int(partition))).Set(float64(left(partition, committed, seq)))
		}
		first := l.behindSince(committed)
		oldest = min(oldest, first)
		age := time.Duration(0)
		if first < len(l.ends) {
			age = now.Sub(l.ends[first].at)
		}
		l.age.WithLabelValues(group).Set(age.Seconds())
		l.mu.Lock()
		l.ages[group], l.committed[group] = age, committed
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = l.ends[oldest:]
	if len(l.ends) > maxEnds {
		kept := l.ends[:0]
		for i := 0; i < len(l.ends); i += 2 {
			kept = append(kept, l.ends[i])
		}
		clear(l.ends[len(kept):])
		l.ends = kept
	}
	return nil
}

func (l *Lag) findOthers(ctx context.Context, now time.Time) error {
	if l.others == nil || now.Sub(l.asked) < othersInterval {
		return nil
	}
	found, err := l.others(ctx)
	if err != nil {
		return err
	}
	for _, group := range l.found {
		if !slices.Contains(found, group) {
			l.forget(group)
		}
	}
	l.found, l.asked = found, now
	return nil
}

func (l *Lag) forget(group string) {
	l.record.DeletePartialMatch(prometheus.Labels{"group": group})
	l.age.DeleteLabelValues(group)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ages, group)
	delete(l.committed, group)
}

// left returns at most how many records of the partition are still to be committed.
func left(partition int32, committed map[int32]int64, end int64) int64 {
	return events.Range{Partition: partition, After: committed[partition], Through: end}.Len()
}

func hasCommitted(positions map[int32]int64) bool {
	for _, seq := range positions {
		if seq > 0 {
			return true
		}
	}
	return false
}

// behindSince returns the index of the first measurement that saw a record which is not committed yet, or the number of
// measurements if there is none.
func (l *Lag) behindSince(committed map[int32]int64) int {
	for i, e := range l.ends {
		for partition, seq := range e.seq {
			if seq > committed[partition] {
				return i
			}
		}
	}
	return len(l.ends)
}
