package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/store"
)

func positionTests() []test {
	return []test{
		{"nothing is stored at first", func(t *testing.T, s Store) { requireStored(t, s, map[int32]int64{}) }},
		{"the position is the highest of each partition and never goes back", func(t *testing.T, s Store) {
			one := at(10, direct(alice, bob, "one"))
			other := at(7, direct(alice, carol, "other"))
			require.NotEqual(t, one.Partition, other.Partition)
			save(t, s, one, other, at(12, direct(alice, bob, "two")))
			requireStored(t, s, map[int32]int64{one.Partition: 12, other.Partition: 7})
			save(t, s, one)
			requireStored(t, s, map[int32]int64{one.Partition: 12, other.Partition: 7})
		}},
		{"what is saved late at an old position is in its place and leaves the stored position", func(t *testing.T, s Store) {
			first, late, last := at(10, direct(alice, bob, "first")), at(11, direct(alice, bob, "late")), at(12, direct(alice, bob, "last"))
			save(t, s, first, last)
			save(t, s, late)
			requireStored(t, s, map[int32]int64{first.Partition: 12})
			requireHistory(t, s, aliceBob, stored(first), stored(late), stored(last))
		}},
		{"records without an effect advance the position", func(t *testing.T, s Store) {
			one := at(10, direct(alice, bob, "one"))
			save(t, s, one, at(11, direct(alice, bob, "one")), at(12, recall(alice, one)), at(13, edit(alice, one, "withdrawn")))
			requireStored(t, s, map[int32]int64{one.Partition: 13})
			save(t, s, at(14, events.Event{Type: "message_pinned", Conversation: aliceBob}))
			requireStored(t, s, map[int32]int64{one.Partition: 14})
		}},
		{"the position is never ahead of the messages", positionNeverAhead},
		{"what is done with otherwise advances the position, which never goes back", func(t *testing.T, s Store) {
			one := at(10, direct(alice, bob, "one"))
			save(t, s, one)
			require.NoError(t, s.Advance(t.Context(), map[int32]int64{one.Partition: 14, one.Partition + 1: 3}))
			require.NoError(t, s.Advance(t.Context(), map[int32]int64{one.Partition: 12}))
			requireStored(t, s, map[int32]int64{one.Partition: 14, one.Partition + 1: 3})
		}},
		{"epochs are kept by topic", func(t *testing.T, s Store) {
			requireEpochs(t, s, "a", events.Epochs{})
			for version, e := range []events.Epochs{
				{TopicID: "first"},
				{TopicID: "first", Cuts: []events.Cut{{Partition: 3, Epoch: 1, Offset: 100}}, Changed: 1_700_000_000_001},
				{TopicID: "second", First: 2, Changed: 1_700_000_000_002},
			} {
				e.Version = int64(version) + 1
				requireSet(t, s, true, e)
				requireEpochs(t, s, "a", e)
				requireSet(t, s, false, events.Epochs{TopicID: "other", Version: e.Version})
				requireEpochs(t, s, "a", e)
			}
			requireEpochs(t, s, "b", events.Epochs{})
		}},
		{"of many that change epochs at once one does", func(t *testing.T, s Store) {
			for version := range int64(3) {
				var group errgroup.Group
				var won atomic.Int64
				for i := range 8 {
					group.Go(func() error {
						e := events.Epochs{TopicID: fmt.Sprint(i), First: version, Version: version + 1}
						set, err := s.SetEpochs(t.Context(), events.TopicMessages, e)
						if set {
							won.Add(1)
						}
						return err
					})
				}
				require.NoError(t, group.Wait())
				require.EqualValues(t, 1, won.Load())
				got, err := s.Epochs(t.Context(), events.TopicMessages)
				require.NoError(t, err)
				require.Equal(t, version, got.First)
			}
		}},
		{"the store can be reached", func(t *testing.T, s Store) { require.NoError(t, s.Ping(t.Context())) }},
		{"a call ends with its context", func(t *testing.T, s Store) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			results := s.SaveBatch(ctx, []events.Record{at(10, direct(alice, bob, "one"))})
			require.ErrorIs(t, results[0], context.Canceled)
			require.False(t, events.IsPermanent(results[0]))
			requireHistory(t, s, aliceBob)
			_, _, err := s.History(ctx, aliceBob, store.Page{Limit: 1})
			require.ErrorIs(t, err, context.Canceled)
		}},
	}
}

// positionNeverAhead reads while batches are saved: whatever stored position it reads, all messages up to it must be there.
func positionNeverAhead(t *testing.T, s Store) {
	const batches, size = 40, 16
	writing, done := context.WithCancel(t.Context())
	defer done()
	var readers sync.WaitGroup
	failures := make(chan error, 2)
	for range cap(failures) {
		readers.Go(func() {
			for writing.Err() == nil {
				if err := checkUpToStored(t.Context(), s); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	for batch := range int64(batches) {
		var records []events.Record
		for i := range int64(size) {
			seq := batch*size + i + 1
			records = append(records, at(seq, direct(alice, bob, fmt.Sprint(seq))))
		}
		save(t, s, records...)
	}
	done()
	readers.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	requireStored(t, s, map[int32]int64{partition(aliceBob): batches * size})
}

func checkUpToStored(ctx context.Context, s Store) error {
	positions, err := s.Stored(ctx)
	if err != nil {
		return err
	}
	messages, _, err := s.History(ctx, aliceBob, store.Page{Limit: 1000})
	if err != nil {
		return err
	}
	if stored := positions[partition(aliceBob)]; int64(len(messages)) < stored {
		return fmt.Errorf("stored up to %d but there are %d messages", stored, len(messages))
	}
	return nil
}

func requireStored(t *testing.T, s Store, want map[int32]int64) {
	t.Helper()
	got, err := s.Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func requireEpochs(t *testing.T, s Store, topic string, want events.Epochs) {
	t.Helper()
	got, err := s.Epochs(t.Context(), topic)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func requireSet(t *testing.T, s Store, want bool, e events.Epochs) {
	t.Helper()
	set, err := s.SetEpochs(t.Context(), "a", e)
	require.NoError(t, err)
	require.Equal(t, want, set)
}
