package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// logFile is the embedded broker's file of the conversation's partition.
func logFile(dataDir, conversation string) string {
	p := events.Partition(conversation, events.EmbeddedPartitions)
	return filepath.Join(dataDir, "kafka", "partitions", fmt.Sprintf("%s-%d", events.TopicMessages, p), "0.dat")
}

// The embedded broker's file of a partition has lost its end, or everything, so the store has more than the log. What is
// accepted from then on is pushed and stored, and clients with older cursors can resume.
func TestLogThatIsShorterThanTheStoreGivesNoPositionTwice(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, file string){
		"cut": func(t *testing.T, file string) {
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(file, info.Size()-4000))
		},
		"garbage at its beginning": func(t *testing.T, file string) {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("garbage that is no batch of records at all"), 0)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := startDev(t, dir)
			a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
			conversation := events.Direct(proof.Alice, proof.Bob)
			for _, content := range proof.Numbered(0, 30) {
				a.Sends(t, client.ToUser(proof.Bob), content)
			}
			require.Equal(t, proof.Numbered(0, 30), b.Reads(t, 30))
			require.Len(t, a.Stored(t, conversation, 30), 30)
			cursor := b.Cursor()
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
			d.stop()
			harm(t, logFile(dir, conversation))

			for round := range 2 { // the second round finds everything settled
				d = startDev(t, dir)
				a = proof.Join(t, d.url(), proof.Alice, nil)
				b = proof.Join(t, d.url(), proof.Bob, cursor)
				first := 30 + 30*round
				for _, content := range proof.Numbered(first, first+30) {
					a.Sends(t, client.ToUser(proof.Bob), content)
				}
				require.Equal(t, proof.Numbered(first, first+30), b.Reads(t, 30))
				require.Equal(t, proof.Numbered(0, first+30), a.Stored(t, conversation, first+30))
				require.Zero(t, proof.Poisoned(t, d.brokers))
				cursor = b.Cursor()
				require.NoError(t, a.Close())
				require.NoError(t, b.Close())
				d.stop()
			}
		})
	}
}

// The store is older than what the group has committed, because a backup was restored or the file is gone. What the log still
// has is stored, counted and kept again. Until then no resume is reported as complete without it.
func TestStoreOlderThanTheCommitsIsBroughtUpToTheLog(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]int{"backup": 10, "deleted": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			all := []string{"--handlers=storage,push,users,groups,analytics"}
			d := startDevAs(t, dir, all)
			a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
			conversation := events.Direct(proof.Alice, proof.Bob)
			send := func(from, to int) {
				for _, content := range proof.Numbered(from, to) {
					a.Sends(t, client.ToUser(proof.Bob), content)
				}
				require.Len(t, a.Stored(t, conversation, to), to)
			}
			restart := func(between func()) {
				require.NoError(t, a.Close())
				require.NoError(t, b.Close())
				d.stop()
				between()
				d = startDevAs(t, dir, all)
				a = proof.Join(t, d.url(), proof.Alice, nil)
			}
			store := filepath.Join(dir, "millrace.db")
			send(0, 10)
			require.Equal(t, proof.Numbered(0, 10), b.Reads(t, 10))
			cursor := b.Cursor()
			var backup []byte
			restart(func() {
				var err error
				backup, err = os.ReadFile(store)
				require.NoError(t, err)
			})
			b = proof.Join(t, d.url(), proof.Bob, cursor)
			send(10, 30)
			require.Equal(t, proof.Numbered(10, 30), b.Reads(t, 20))
			_, err := a.Call(t.Context(), client.Block{User: proof.Carol})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return d.counted(t) == 30 }, proof.Patience, 20*time.Millisecond)
			restart(func() {
				for _, file := range []string{store, store + "-wal", store + "-shm"} {
					require.NoError(t, os.RemoveAll(file))
				}
				if kept > 0 {
					require.NoError(t, os.WriteFile(store, backup, 0o600))
				}
			})
			b = proof.Join(t, d.url(), proof.Bob, cursor)
			require.Equal(t, proof.Numbered(10, 30), b.Reads(t, 20))
			require.Equal(t, proof.Numbered(0, 30), a.Stored(t, conversation, 30))
			send(30, 35)
			require.Equal(t, proof.Numbered(30, 35), b.Reads(t, 5))
			require.Eventually(t, func() bool {
				blocked, err := a.Blocked(t.Context())
				require.NoError(t, err)
				return slices.Equal(blocked, []int64{proof.Carol})
			}, proof.Patience, 20*time.Millisecond, "the block is kept again")
			require.Eventually(t, func() bool { return d.counted(t) == 35 }, proof.Patience, 20*time.Millisecond, "all are counted once")
			require.Zero(t, proof.Poisoned(t, d.brokers))
		})
	}
}
