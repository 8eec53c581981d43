package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/goleak"

	"millrace/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore keeps the batches. If save is set, it decides the result of each.
type fakeStore struct {
	mu       sync.Mutex
	batches  [][]events.Record
	save     func(ctx context.Context, batch []events.Record) []error
	advanced []map[int32]int64
	failing  error // what Advance returns
}

func (s *fakeStore) Stored(context.Context) (map[int32]int64, error) {
	return map[int32]int64{3: 7}, nil
}

func (s *fakeStore) Advance(_ context.Context, positions map[int32]int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing == nil {
		s.advanced = append(s.advanced, positions)
	}
	return s.failing
}

func (s *fakeStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	s.mu.Lock()
	s.batches = append(s.batches, batch)
	s.mu.Unlock()
	if s.save != nil {
		return s.save(ctx, batch)
	}
	return make([]error, len(batch))
}

func (s *fakeStore) all() [][]events.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func record(partition int32, seq int64) events.Record {
	return events.Record{Position: events.Position{Partition: partition, Seq: seq}}
}

func start(t *testing.T, store Store) (handle func(context.Context, events.Record) error) {
	t.Helper()
	s := New(store, slog.New(slog.DiscardHandler))
	s.Start()
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	return s.Handler().Handle
}

// blockedStore returns a store that blocks in its first SaveBatch until the test releases it.
func blockedStore() (store *fakeStore, taken, release chan struct{}) {
	taken, release = make(chan struct{}), make(chan struct{})
	first := true
	store = &fakeStore{}
	store.save = func(_ context.Context, batch []events.Record) []error {
		if first {
			first = false
			close(taken)
			<-release
		}
		return make([]error, len(batch))
	}
	return store, taken, release
}

func TestWhatWaitsIsSavedAsOneBatchAscendingInEachPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, taken, release := blockedStore()
		handle := start(t, store)
		var waiting sync.WaitGroup
		waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(9, 1))) })
		<-taken
		for _, i := range rand.Perm(maxBatch + 88) {
			waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(int32(i%7), int64(i+1)))) })
		}
		synctest.Wait()
		close(release)
		waiting.Wait()

		batches := store.all()
		require.Len(t, batches, 3)
		require.Len(t, batches[1], maxBatch)
		require.Len(t, batches[2], 88)
		seen := make(map[events.Position]bool)
		for _, batch := range batches[1:] {
			for i, r := range batch {
				require.False(t, seen[r.Position])
				seen[r.Position] = true
				if i > 0 && batch[i-1].Partition == r.Partition {
					require.Less(t, batch[i-1].Seq, r.Seq)
				}
			}
		}
	})
}

// The rest goes by how long the commit took, so that a store that is quick, or slow for once, makes nobody wait long.
func TestAfterACommitWhatComesGathersForThreeTimesAsLong(t *testing.T) {
	for took, rest := range map[time.Duration]time.Duration{
		2 * time.Millisecond: 6 * time.Millisecond,
		time.Second:          longestRest,
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &fakeStore{}
			var began []time.Time
			store.save = func(_ context.Context, batch []events.Record) []error {
				began = append(began, time.Now())
				time.Sleep(took)
				return make([]error, len(batch))
			}
			handle := start(t, store)
			require.NoError(t, handle(t.Context(), record(1, 1)))
			var waiting sync.WaitGroup
			for seq := range int64(3) {
				waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(int32(seq), 2))) })
				time.Sleep(time.Millisecond)
			}
			waiting.Wait()
			time.Sleep(rest)
			require.NoError(t, handle(t.Context(), record(1, 3)))

			require.Len(t, store.all(), 3)
			require.Len(t, store.all()[1], 3)
			require.Equal(t, took+rest, began[1].Sub(began[0]))
			require.Equal(t, took+rest, began[2].Sub(began[1]), "nobody who comes after the rest waits")
		})
	}
}

func TestAFullBatchDoesNotWaitForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		store.save = func(_ context.Context, batch []events.Record) []error {
			time.Sleep(time.Millisecond)
			return make([]error, len(batch))
		}
		handle := start(t, store)
		begin := time.Now()
		require.NoError(t, handle(t.Context(), record(1, 1)))
		var waiting sync.WaitGroup
		for i := range int64(maxBatch) {
			waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(1, i+2))) })
		}
		waiting.Wait()
		require.Equal(t, 2*time.Millisecond, time.Since(begin))
	})
}

func TestEachRecordGetsItsOwnResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, taken, release := blockedStore()
		blocked := store.save
		store.save = func(ctx context.Context, batch []events.Record) []error {
			results := blocked(ctx, batch)
			for i, r := range batch {
				if r.Seq%2 == 0 {
					results[i] = fmt.Errorf("not %d", r.Seq)
				}
			}
			return results
		}
		handle := start(t, store)
		var waiting sync.WaitGroup
		waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(0, 1))) })
		<-taken
		for seq := range int64(20) {
			waiting.Go(func() {
				err := handle(t.Context(), record(int32(seq), seq))
				if seq%2 == 0 {
					assert.EqualError(t, err, fmt.Sprintf("not %d", seq))
				} else {
					assert.NoError(t, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		waiting.Wait()
	})
}

func TestRecordAtWhichTheStorePanicsIsGivenUpAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, taken, release := blockedStore()
		blocked := store.save
		store.save = func(ctx context.Context, batch []events.Record) []error {
			for _, r := range batch {
				if r.Seq == 13 {
					panic("thirteen")
				}
			}
			return blocked(ctx, batch)
		}
		handle := start(t, store)
		var waiting sync.WaitGroup
		waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(0, 1))) })
		<-taken
		for _, seq := range []int64{12, 13, 14} {
			waiting.Go(func() {
				err := handle(t.Context(), record(int32(seq), seq))
				assert.Equal(t, seq == 13, events.IsPermanent(err), err)
				assert.Equal(t, seq == 13, err != nil)
			})
		}
		synctest.Wait()
		close(release)
		waiting.Wait()
	})
}

func TestStoreThatAnswersTooLittleFailsTheBatch(t *testing.T) {
	store := &fakeStore{save: func(context.Context, []events.Record) []error { return nil }}
	handle := start(t, store)
	err := handle(t.Context(), record(0, 1))
	require.ErrorContains(t, err, "0 results for 1 records")
	require.False(t, events.IsPermanent(err))
}

func TestCallerThatGivesUpHoldsUpNobodyAndItsRecordIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, taken, release := blockedStore()
		handle := start(t, store)
		var waiting sync.WaitGroup
		waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(0, 1))) })
		<-taken
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := handle(ctx, record(1, 1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, events.IsPermanent(err))
		close(release)
		waiting.Wait()
		require.NoError(t, handle(t.Context(), record(1, 1)))
		require.Equal(t, [][]events.Record{{record(0, 1)}, {record(1, 1)}}, store.all())
	})
}

func TestContextOfAStoreThatHangsIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{save: func(ctx context.Context, _ []events.Record) []error {
			<-ctx.Done()
			return []error{ctx.Err()}
		}}
		handle := start(t, store)
		require.ErrorIs(t, handle(t.Context(), record(0, 1)), context.DeadlineExceeded)
	})
}

func TestStopFinishesTheBatchBeingSavedAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, taken, release := blockedStore()
		s := New(store, slog.New(slog.DiscardHandler))
		s.Start()
		handle := s.Handler().Handle
		var waiting sync.WaitGroup
		waiting.Go(func() { assert.NoError(t, handle(t.Context(), record(0, 1))) })
		<-taken
		waiting.Go(func() { assert.ErrorIs(t, handle(t.Context(), record(1, 1)), ErrStopped) })
		synctest.Wait()

		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Stop(impatient), context.DeadlineExceeded)
		close(release)
		require.NoError(t, s.Stop(t.Context()))
		waiting.Wait()
		err := handle(t.Context(), record(2, 1))
		require.ErrorIs(t, err, ErrStopped)
		require.False(t, events.IsPermanent(err))
		require.Len(t, store.all(), 1)
	})
}

func TestStoredPositionPassesSkippedAndPoisonedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{}
		s := New(store, slog.New(slog.DiscardHandler))
		s.Start()
		h := s.Handler()
		require.NoError(t, h.Handle(t.Context(), record(1, 5)))
		h.Settled(events.Position{Partition: 1, Seq: 5})
		synctest.Wait()
		require.Empty(t, store.advanced, "the store knows of what it has saved")

		store.mu.Lock()
		store.failing = errors.New("down")
		store.mu.Unlock()
		h.Settled(events.Position{Partition: 1, Seq: 6}) // skipped, or poisoned
		h.Settled(events.Position{Partition: 2, Seq: 9})
		synctest.Wait()
		store.mu.Lock()
		store.failing = nil
		store.mu.Unlock()
		require.NoError(t, h.Handle(t.Context(), record(1, 7)))
		synctest.Wait()
		require.Equal(t, []map[int32]int64{{2: 9}}, store.advanced, "what is saved since needs no telling")

		h.Settled(events.Position{Partition: 1, Seq: 8})
		require.NoError(t, s.Stop(t.Context()))
		require.Equal(t, map[int32]int64{1: 8}, store.advanced[len(store.advanced)-1])
		progress, err := h.Progress(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[int32]int64{3: 7}, progress)
	})
}

func TestModuleStartsAndStopsTheHandler(t *testing.T) {
	failed := errors.New("no")
	var handlers []events.Handler
	app := fxtest.New(t, Module, fx.NopLogger,
		fx.Supply(slog.New(slog.DiscardHandler)),
		fx.Provide(func() Store {
			return &fakeStore{save: func(context.Context, []events.Record) []error { return []error{failed} }}
		}),
		fx.Populate(fx.Annotate(&handlers, fx.ParamTags(`group:"handlers"`))))
	app.RequireStart()
	require.Len(t, handlers, 1)
	require.Equal(t, "storage-consumer-group", handlers[0].Group)
	require.ErrorIs(t, handlers[0].Handle(t.Context(), record(0, 1)), failed)
	app.RequireStop()
	require.ErrorIs(t, handlers[0].Handle(t.Context(), record(0, 1)), ErrStopped)
}
