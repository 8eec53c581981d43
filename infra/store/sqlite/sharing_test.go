package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/store/storetest"
)

func TestManyCreateTheFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a strange?name#%41.db")
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			db, err := Open(t.Context(), path)
			if err != nil {
				return err
			}
			return errors.Join(db.Ping(t.Context()), db.Close())
		})
	}
	require.NoError(t, group.Wait())
	require.FileExists(t, path)
}

// Two stores of one file save the same records in overlapping batches, as consumers do around a rebalance.
func TestTwoStoresOfOneFileSaveAtOnceWithoutLosingOrDoubling(t *testing.T) {
	const messages, size = 600, 30
	path := filepath.Join(t.TempDir(), "store.db")
	seqs := make(map[int32]int64)
	var records []events.Record
	for i := range messages {
		records = append(records, record(seqs, int64(i%7), i, "hello"))
	}
	var group errgroup.Group
	stores := []*DB{open(t, path), open(t, path)}
	for i, db := range stores {
		group.Go(func() error {
			for from := i * size / 2; from < messages; from += size {
				if err := errors.Join(db.SaveBatch(t.Context(), records[from:min(from+size, messages)])...); err != nil {
					return err
				}
			}
			return errors.Join(db.SaveBatch(t.Context(), records[:size])...)
		})
	}
	require.NoError(t, group.Wait())

	var want, got []events.Position
	for _, r := range records {
		want = append(want, r.Position)
	}
	for pair := range int64(7) {
		name := events.Direct(2*pair+1, 2*pair+2)
		page, more, err := stores[0].History(t.Context(), name, store.Page{Limit: messages})
		require.NoError(t, err)
		require.False(t, more)
		for _, m := range page {
			got = append(got, events.Position{Partition: events.Partition(name, events.DefaultPartitions), Seq: m.Seq})
		}
	}
	require.ElementsMatch(t, want, got)
	stored, err := stores[1].Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, seqs, stored)
}

// Wherever a batch fails, it leaves nothing behind: no messages, no position, and no id of a conversation in the cache,
// because another process may get the same id for another conversation.
func TestAFailedBatchLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db, other := open(t, path), open(t, path)
	sabotage(t, other, `CREATE TRIGGER refuse BEFORE INSERT ON positions BEGIN SELECT RAISE(ABORT, 'refused'); END`)

	seqs := make(map[int32]int64)
	one, two := record(seqs, 1, 1, "one"), record(seqs, 2, 2, "two")
	bad := one
	bad.Message = nil
	for _, err := range db.SaveBatch(t.Context(), []events.Record{one, two, bad}) {
		require.ErrorContains(t, err, "refused")
		require.False(t, events.IsPermanent(err))
	}
	sabotage(t, other, `DROP TRIGGER refuse`)
	for _, r := range []events.Record{one, two} {
		_, err := other.Message(t.Context(), r.Message.Conversation, r.Message.MessageID)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	stored, err := db.Stored(t.Context())
	require.NoError(t, err)
	require.Empty(t, stored)

	require.NoError(t, other.SaveBatch(t.Context(), []events.Record{two})[0])
	require.NoError(t, db.SaveBatch(t.Context(), []events.Record{one})[0])
	for _, r := range []events.Record{one, two} {
		got, _, err := db.History(t.Context(), r.Message.Conversation, store.Page{Limit: 10})
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, r.Message.MessageID, got[0].MessageID)
	}
}

func TestARecallLeavesTheContentInNoRow(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	one := record(make(map[int32]int64), 1, 1, "a secret")
	change := events.Record{Position: one.Position, Event: events.Event{
		Type: events.MessageEdited, Conversation: one.Message.Conversation, MessageID: one.Message.MessageID,
		MessageSeq: one.Seq, By: one.Message.From, Content: "a secret too",
	}}
	change.Seq++
	recall := change
	recall.Seq++
	recall.Type, recall.Content = events.MessageRecalled, ""
	require.NoError(t, errors.Join(db.SaveBatch(t.Context(), []events.Record{one, change, recall})...))
	require.NoError(t, db.readers.within(t.Context(), func(ctx context.Context, c *conn) error {
		return c.list(ctx, `SELECT content FROM messages UNION ALL SELECT event FROM changes`, nil, func(rows *sql.Rows) error {
			var text string
			err := rows.Scan(&text)
			require.NotContains(t, text, "secret")
			return err
		})
	}))
}

func TestTwoMessagesNeverHaveOnePosition(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	seqs := make(map[int32]int64)
	one := record(seqs, 1, 1, "one")
	two, below := record(seqs, 1, 2, "two"), record(seqs, 1, 2, "two")
	later := record(seqs, 1, 3, "three")
	two.Position, below.Position = one.Position, one.Position
	results := db.SaveBatch(t.Context(), []events.Record{one, two, later})
	require.NoError(t, results[0])
	require.True(t, events.IsPermanent(results[1]), "got %v", results[1])
	require.NoError(t, results[2])

	two.Seq = 9
	require.NoError(t, db.SaveBatch(t.Context(), []events.Record{two})[0], "at a free position it is stored")
	require.True(t, events.IsPermanent(db.SaveBatch(t.Context(), []events.Record{below})[0]))
	got, _, err := db.History(t.Context(), one.Message.Conversation, store.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, got, 3)
}

func TestWaitingForTheLockEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db, other := open(t, path), open(t, path)
	one := record(make(map[int32]int64), 1, 1, "one")
	err := other.writer.within(t.Context(), func(context.Context, *conn) error {
		ctx, cancel := context.WithCancel(t.Context())
		saved := make(chan error)
		go func() { saved <- db.SaveBatch(ctx, []events.Record{one})[0] }()
		cancel()
		err := <-saved
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, events.IsPermanent(err))
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, db.SaveBatch(t.Context(), []events.Record{one})[0], "the connection is still of use")
}

func TestAFileOfANewerProgramIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	sabotage(t, open(t, path), fmt.Sprintf(`PRAGMA user_version = %d`, len(migrations())+1))
	_, err := Open(t.Context(), path)
	require.ErrorContains(t, err, "schema version")
}

func TestAFileOfAnOlderProgramIsBroughtUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	old, err := openPool(t.Context(), writerDSN(path), "BEGIN IMMEDIATE", 1)
	require.NoError(t, err)
	_, err = old.db.ExecContext(t.Context(), firstSchema+`PRAGMA user_version = 1;
		INSERT INTO conversations VALUES (1, 'g:77', 0, 10, 10);
		INSERT INTO groups VALUES (1, 'old', 1001, 0);
		INSERT INTO stays VALUES (1001, 1, 10, 0), (1002, 1, 10, 11);
		INSERT INTO changes VALUES (1, 11, 'member_left', NULL, '{"type":"member_left","event_id":"e"}');`)
	require.NoError(t, errors.Join(err, old.close()))

	for range 2 {
		db := open(t, path)
		group, err := db.Group(t.Context(), 77)
		require.NoError(t, err)
		require.Equal(t, store.Group{ID: 77, Name: "old", Grants: store.Founded(1001)}, group)
		stays, err := db.Stays(t.Context(), 1002, 77)
		require.NoError(t, err)
		require.Equal(t, []store.Membership{{GroupID: 77, User: 1002, Joined: 10, Left: 11}}, stays)
		seq, err := db.ChangeSeq(t.Context(), "g:77", "e")
		require.NoError(t, err)
		require.Positive(t, seq)
		require.NoError(t, db.Close())
	}
}

func TestAClosedStoreAnswersErrors(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	require.NoError(t, db.Close())
	require.ErrorIs(t, db.Ping(t.Context()), errClosed)
	err := db.SaveBatch(t.Context(), []events.Record{record(make(map[int32]int64), 1, 1, "one")})[0]
	require.ErrorIs(t, err, errClosed)
	require.False(t, events.IsPermanent(err))
}

func TestTheFileIsDurable(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000"} {
		var got string
		require.NoError(t, db.writer.within(t.Context(), func(ctx context.Context, c *conn) error {
			return c.list(ctx, "PRAGMA "+pragma, nil, func(rows *sql.Rows) error { return rows.Scan(&got) })
		}))
		require.Equal(t, want, got, pragma)
	}
}

func sabotage(t *testing.T, db *DB, statement string) {
	t.Helper()
	require.NoError(t, db.writer.within(t.Context(), func(ctx context.Context, c *conn) error {
		_, err := c.ExecContext(ctx, statement)
		return err
	}))
}

// A process that starts again finds others that write without a pause, or one that is frozen in the middle of a transaction.
func TestOpenDoesNotWaitForWhoeverWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	writing := open(t, path)
	err := writing.writer.within(t.Context(), func(ctx context.Context, _ *conn) error {
		db, err := Open(ctx, path)
		if err != nil {
			return err
		}
		return db.Close()
	})
	require.NoError(t, err)
}

// Whoever has the file keeps the lock for longer than SQLite itself waits for it.
func TestOpenWaitsForWhoeverHasLockedTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	holder, err := openPool(t.Context(), writerDSN(path), "BEGIN EXCLUSIVE", 1)
	require.NoError(t, err)
	opened := make(chan error)
	err = holder.within(t.Context(), func(ctx context.Context, _ *conn) error {
		go func() {
			db, err := Open(ctx, path)
			if err == nil {
				err = db.Close()
			}
			opened <- err
		}()
		_, err := openOnce(ctx, path)
		require.True(t, busy(err), err)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, <-opened)
	require.NoError(t, holder.close())
}

func TestOfThoseWhoTakeNotificationsAtOnceEachGetsOthers(t *testing.T) {
	storetest.RunTakers(t, open(t, filepath.Join(t.TempDir(), "store.db")))
}

// One process erases a user while the other saves, as a message node and a worker do.
func TestOfAnErasedUserNoOtherProcessSavesAnythingEither(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	worker, node := open(t, path), open(t, path)
	seqs := make(map[int32]int64)
	early, late, later := record(seqs, 0, 1, "early"), record(seqs, 0, 2, "late"), record(seqs, 0, 3, "later")
	require.NoError(t, errors.Join(worker.SaveBatch(t.Context(), []events.Record{early})...))
	require.NoError(t, node.SaveErasure(t.Context(), early.Message.From, map[int32]int64{late.Partition: late.Seq}))
	require.NoError(t, errors.Join(worker.SaveBatch(t.Context(), []events.Record{late, later})...))
	emptied, next, err := node.EraseIn(t.Context(), early.Message.From, early.Message.Conversation, 0)
	require.NoError(t, err)
	require.Equal(t, 1, emptied, "the other came empty")
	require.Zero(t, next)
	page, _, err := worker.History(t.Context(), early.Message.Conversation, store.Page{Limit: 9})
	require.NoError(t, err)
	require.Equal(t, []string{"", "", "later"}, []string{page[0].Content, page[1].Content, page[2].Content})
}

// Neither what was erased nor what was recalled can be found in the file.
func TestNothingOfWhatIsErasedIsLeftInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := Open(t.Context(), path)
	require.NoError(t, err)
	seqs := make(map[int32]int64)
	var records []events.Record
	for i := range 300 {
		records = append(records, record(seqs, 0, i, strings.Repeat("confidential ", 1+i*i/40)))
	}
	require.NoError(t, errors.Join(db.SaveBatch(t.Context(), records)...))
	first := records[0].Message
	require.NoError(t, db.SaveErasure(t.Context(), first.From, map[int32]int64{records[0].Partition: 300}))
	_, _, err = db.EraseIn(t.Context(), first.From, first.Conversation, 0)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Zero(t, bytes.Count(data, []byte("confidential")))
}
