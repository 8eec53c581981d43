package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

const (
	// victimPath is the variable that turns the test binary into a process that saves to the file with that name.
	victimPath  = "MILLRACE_TEST_VICTIM_STORE"
	victimPairs = 7
)

// saveUntilKilled saves numbered messages of seven pairs for as long as the process lives.
func saveUntilKilled(path string) {
	ctx := context.Background()
	db, err := Open(ctx, path)
	if err != nil {
		panic(err)
	}
	seqs := make(map[int32]int64)
	for number := 0; ; {
		var batch []events.Record
		for range 20 {
			batch = append(batch, record(seqs, int64(number%victimPairs), number, "hello"))
			number++
		}
		if err := errors.Join(db.SaveBatch(ctx, batch)...); err != nil {
			panic(err)
		}
	}
}

func TestAKilledProcessLeavesNoPositionAheadOfItsMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db := open(t, path)
	for range 3 {
		before, err := db.Stored(t.Context())
		require.NoError(t, err)
		victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		victim.Env = append(os.Environ(), victimPath+"="+path)
		victim.Stderr = os.Stderr
		require.NoError(t, victim.Start())
		// Each process starts from the beginning again, so all but the first also save what is stored already.
		require.Eventually(t, func() bool {
			stored, err := db.Stored(t.Context())
			return err == nil && total(stored) >= total(before)+500
		}, 20*time.Second, 5*time.Millisecond)
		require.NoError(t, victim.Process.Kill())
		require.Error(t, victim.Wait())
		requireAllUpToStored(t, open(t, path))
	}
}

func requireAllUpToStored(t *testing.T, db *DB) {
	t.Helper()
	stored, err := db.Stored(t.Context())
	require.NoError(t, err)
	there := make(map[int32]int64)
	for pair := range int64(victimPairs) {
		name := events.Direct(2*pair+1, 2*pair+2)
		messages, more, err := db.History(t.Context(), name, store.Page{Limit: 1 << 30})
		require.NoError(t, err)
		require.False(t, more)
		there[events.Partition(name, events.DefaultPartitions)] += int64(len(messages))
	}
	// Positions have no gaps here, so there must be exactly as many messages as the position says, each once.
	require.Equal(t, stored, there, fmt.Sprint(total(stored), " stored"))
}

func total(stored map[int32]int64) int64 {
	var n int64
	for _, seq := range stored {
		n += seq
	}
	return n
}
