package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/infra/pubsub"
)

// fakeLog has one topic with one partition that one group reads.
type fakeLog struct {
	pubsub.Log
	end, committed int64
	written        int64 // what lies after the end belongs to an open transaction
	err            error
}

func (f *fakeLog) End(context.Context) (map[int32]int64, error) {
	return map[int32]int64{0: f.end}, f.err
}

func (f *fakeLog) Committed(context.Context, string) (map[int32]int64, error) {
	return map[int32]int64{0: f.committed}, f.err
}

func (f *fakeLog) Bounds(context.Context) (map[int32]pubsub.Bounds, error) {
	return map[int32]pubsub.Bounds{0: {Stable: f.end, Written: f.written}}, f.err
}

func TestLagIsToldInRecordsAndInTheAgeOfTheOldest(t *testing.T) {
	reg := prometheus.NewRegistry()
	log := &fakeLog{}
	lag := NewLag(reg, "topic", log, []string{"group"}, nil, slog.New(slog.DiscardHandler))
	begin := time.Now()
	for _, step := range []struct {
		after          time.Duration
		end, committed int64
		records, age   float64
	}{
		{0, 10, 10, 0, 0},
		{1 * time.Second, 20, 10, 10, 0}, // seen for the first time
		{5 * time.Second, 20, 10, 10, 4},
		{6 * time.Second, 30, 15, 15, 5},
		{8 * time.Second, 30, 20, 10, 2}, // the oldest is now of the sixth second
		{9 * time.Second, 30, 30, 0, 0},
		{20 * time.Second, 31, 30, 1, 0},
	} {
		log.end, log.written, log.committed = step.end, step.end, step.committed
		require.NoError(t, lag.measure(t.Context(), begin.Add(step.after)))
		require.InDelta(t, step.records, testutil.ToFloat64(lag.record.WithLabelValues("group", "0")), 0, "%v", step)
		require.InDelta(t, step.age, testutil.ToFloat64(lag.age.WithLabelValues("group")), 0.001, "%v", step)
		ages, known := lag.PartitionAges("group")
		require.True(t, known)
		require.Equal(t, step.records > 0, len(ages) == 1, "%v", step)
		require.InDelta(t, step.age, ages[0].Seconds(), 0.001, "%v", step)
		age, measured := lag.Age("group")
		require.True(t, measured)
		require.InDelta(t, step.age, age.Seconds(), 0.001, "%v", step)
	}
	_, measured := lag.Age("another")
	require.False(t, measured)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestLagOfAGroupThatNobodyHereRunsIsToldWhileTheBrokerKnowsTheGroup(t *testing.T) {
	reg := prometheus.NewRegistry()
	log := &fakeLog{end: 10, written: 10}
	var found []string
	lag := NewLag(reg, "topic", log, nil, func(context.Context) ([]string, error) { return found, nil }, slog.New(slog.DiscardHandler))
	begin := time.Now()
	for _, step := range []struct {
		after     time.Duration
		found     []string
		committed int64
		series    int
	}{
		{0, nil, 4, 0},
		{time.Second, []string{"group"}, 4, 0}, // it asks every 10 s
		{10 * time.Second, []string{"group"}, 0, 0},
		{11 * time.Second, []string{"group"}, 4, 1},
		{12 * time.Second, []string{"group"}, 10, 1},
		{13 * time.Second, []string{"group"}, 0, 0},
		{14 * time.Second, []string{"group"}, 4, 1},
		{20 * time.Second, nil, 4, 0},
	} {
		found, log.committed = step.found, step.committed
		require.NoError(t, lag.measure(t.Context(), begin.Add(step.after)))
		require.Equal(t, step.series, testutil.CollectAndCount(lag.record), "%v", step)
		require.Equal(t, step.series, testutil.CollectAndCount(lag.age), "%v", step)
	}
}

func TestLagThatLastsIsRememberedWithinBounds(t *testing.T) {
	log := &fakeLog{}
	lag := NewLag(prometheus.NewRegistry(), "topic", log, []string{"group"}, nil, slog.New(slog.DiscardHandler))
	begin := time.Now()
	for i := range 10 * maxEnds {
		log.end, log.written = int64(i+1), int64(i+1)
		require.NoError(t, lag.measure(t.Context(), begin.Add(time.Duration(i)*time.Second)))
		require.LessOrEqual(t, len(lag.ends), maxEnds)
	}
	require.InDelta(t, 10*maxEnds-1, testutil.ToFloat64(lag.age.WithLabelValues("group")), 0.001)
}

func TestOpenTransactionIsToldByWhatItHoldsBackAndForHowLong(t *testing.T) {
	log := &fakeLog{}
	lag := NewLag(prometheus.NewRegistry(), "topic", log, []string{"group"}, nil, slog.New(slog.DiscardHandler))
	begin := time.Now()
	for _, step := range []struct {
		after            time.Duration
		end, written     int64
		records, seconds float64
	}{
		{0, 10, 10, 0, 0},
		{1 * time.Second, 10, 14, 4, 0}, // seen for the first time
		{5 * time.Second, 10, 20, 10, 4},
		{6 * time.Second, 15, 20, 5, 0}, // that one has ended, the next is open
		{8 * time.Second, 15, 20, 5, 2},
		{9 * time.Second, 21, 21, 0, 0},
		{20 * time.Second, 21, 22, 1, 0},
	} {
		log.end, log.written, log.committed = step.end, step.written, step.end
		require.NoError(t, lag.measure(t.Context(), begin.Add(step.after)))
		require.InDelta(t, step.records, testutil.ToFloat64(lag.open.records.WithLabelValues("0")), 0, "%v", step)
		require.InDelta(t, step.seconds, testutil.ToFloat64(lag.open.seconds), 0.001, "%v", step)
		require.Zero(t, testutil.ToFloat64(lag.record.WithLabelValues("group", "0")), "what nobody can be given yet is no lag")
	}
}

func TestLagThatCannotBeLearntIsCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	lag := NewLag(reg, "topic", &fakeLog{err: errors.New("away")}, []string{"group"}, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, lag.measure(ctx, time.Now()))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(""), "millrace_consumer_lag_records"))
}
