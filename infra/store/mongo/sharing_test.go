package mongo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/store/mongo/mongotest"
	"millrace/infra/store/storetest"
)

const (
	// victimURI is the variable that turns the test binary into a process that saves to the database with that URI.
	victimURI = "MILLRACE_TEST_VICTIM_MONGODB_URI"
	pairs     = 7
)

func TestManyStartAtOnce(t *testing.T) {
	uri := mongotest.Start(t).Database(t)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			db, err := Open(t.Context(), uri)
			if err != nil {
				return err
			}
			return errors.Join(db.Ping(t.Context()), db.Close())
		})
	}
	require.NoError(t, group.Wait())

	// A message at a position that is taken is refused, so the index exists and is unique.
	db := opened(t, uri)
	seqs := make(map[int32]int64)
	one, two := record(seqs, 1, 1), record(seqs, 1, 2)
	two.Position = one.Position
	results := db.SaveBatch(t.Context(), []events.Record{one, two})
	require.NoError(t, results[0])
	require.True(t, events.IsPermanent(results[1]), "got %v", results[1])
}

// Two stores of one database save the same records in overlapping batches, as consumers do around a rebalance.
func TestTwoStoresSaveAtOnceWithoutLosingOrDoubling(t *testing.T) {
	const messages, size = 600, 30
	server := mongotest.Start(t)
	uri := server.Database(t)
	seqs := make(map[int32]int64)
	var records []events.Record
	for i := range messages {
		records = append(records, record(seqs, int64(i%pairs), i))
	}
	stores := []*DB{opened(t, uri), opened(t, uri)}
	var group errgroup.Group
	for i, db := range stores {
		group.Go(func() error {
			for from := i * size / 2; from < messages; from += size {
				if err := saveForSure(t.Context(), db, records[from:min(from+size, messages)]); err != nil {
					return err
				}
			}
			return saveForSure(t.Context(), db, records[:size])
		})
	}
	require.NoError(t, group.Wait())
	if server.Ferret { // its $max reads and writes in two steps, so the position may have gone back
		require.NoError(t, saveForSure(t.Context(), stores[0], records[messages-size:]))
	}
	requireAllUpToStored(t, stores[0])
	stored, err := stores[1].Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, seqs, stored)
}

// saveForSure tries again after transient errors, as the router does.
func saveForSure(ctx context.Context, db *DB, records []events.Record) error {
	for {
		err := errors.Join(db.SaveBatch(ctx, records)...)
		if err == nil || events.IsPermanent(err) || ctx.Err() != nil {
			return err
		}
	}
}

func TestTenThousandMessagesSavedTwiceAreTenThousand(t *testing.T) {
	const messages, size = 10_000, 2_000 // FerretDB looks for each batch of repeats in everything that is stored
	db := opened(t, mongotest.Start(t).Database(t))
	seqs := make(map[int32]int64)
	var records []events.Record
	for i := range messages {
		records = append(records, record(seqs, int64(i%pairs), i))
	}
	for range 2 {
		for batch := range slices.Chunk(records, size) {
			require.NoError(t, saveForSure(t.Context(), db, batch))
		}
	}
	stored, err := db.Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, seqs, stored)
	requireAllUpToStored(t, db)
}

// saveUntilKilled saves numbered messages for as long as the process lives.
func saveUntilKilled(uri string) {
	ctx := context.Background()
	db, err := Open(ctx, uri)
	if err != nil {
		panic(err)
	}
	seqs := make(map[int32]int64)
	for number := 0; ; {
		var batch []events.Record
		for range 20 {
			batch = append(batch, record(seqs, int64(number%pairs), number))
			number++
		}
		if err := errors.Join(db.SaveBatch(ctx, batch)...); err != nil {
			panic(err)
		}
	}
}

func TestAKilledProcessLeavesNoPositionAheadOfItsMessages(t *testing.T) {
	uri := mongotest.Start(t).Database(t)
	db := opened(t, uri)
	for range 2 {
		before, err := db.Stored(t.Context())
		require.NoError(t, err)
		victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		victim.Env = append(os.Environ(), victimURI+"="+uri)
		victim.Stderr = os.Stderr
		require.NoError(t, victim.Start())
		// The second process starts from the beginning again, so it also saves what is stored already.
		require.Eventually(t, func() bool {
			stored, err := db.Stored(t.Context())
			return err == nil && total(stored) >= total(before)+300
		}, 30*time.Second, 5*time.Millisecond)
		require.NoError(t, victim.Process.Kill())
		require.Error(t, victim.Wait())
		requireAllUpToStored(t, db)
	}
}

// requireAllUpToStored requires that every pair has its messages once, without holes, at least up to the stored position.
// Positions have no gaps here, so there must be as many messages as the position says.
func requireAllUpToStored(t *testing.T, db *DB) {
	t.Helper()
	stored, err := db.Stored(t.Context())
	require.NoError(t, err)
	there := make(map[int32][]int64)
	for pair := range int64(pairs) {
		name := events.Direct(2*pair+1, 2*pair+2)
		messages, more, err := db.History(t.Context(), name, store.Page{Limit: 1 << 30})
		require.NoError(t, err)
		require.False(t, more)
		partition := events.Partition(name, events.DefaultPartitions)
		for _, m := range messages {
			there[partition] = append(there[partition], m.Seq)
		}
	}
	for partition, seq := range stored {
		seqs := there[partition]
		slices.Sort(seqs)
		require.Equal(t, len(seqs), len(slices.Compact(slices.Clone(seqs))), "doubled in partition %d", partition)
		require.GreaterOrEqual(t, int64(len(seqs)), seq)
		require.Equal(t, seq, seqs[seq-1], "a hole in partition %d", partition)
	}
}

func total(stored map[int32]int64) int64 {
	var n int64
	for _, seq := range stored {
		n += seq
	}
	return n
}

func TestOfThoseWhoTakeNotificationsAtOnceEachGetsOthers(t *testing.T) {
	server := mongotest.Start(t)
	if server.Ferret {
		t.Skip("updates of FerretDB 1.24 are not atomic")
	}
	storetest.RunTakers(t, opened(t, server.Database(t)))
}
