package mongo

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/store/mongo/mongotest"
)

// interrupter ends a context after so many more commands.
type interrupter struct {
	left   atomic.Int64
	cancel atomic.Value // context.CancelFunc
}

func (i *interrupter) options() *options.ClientOptions {
	return options.Client().SetMonitor(&event.CommandMonitor{
		Succeeded: func(context.Context, *event.CommandSucceededEvent) {
			if i.left.Add(-1) == 0 {
				i.cancel.Load().(context.CancelFunc)() //nolint:errcheck // never another type
			}
		},
	})
}

func (i *interrupter) after(ctx context.Context, commands int64) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	i.cancel.Store(cancel)
	i.left.Store(commands)
	return ctx
}

// Whichever command a batch breaks off after, nothing is lost and nothing doubled once its records are saved again.
func TestABatchThatBrokeOffAnywhereIsCompletedWhenItComesAgain(t *testing.T) {
	server := mongotest.Start(t)
	batch := everyKindOfRecord()
	undisturbed := opened(t, server.Database(t))
	for i, err := range undisturbed.SaveBatch(t.Context(), batch) {
		require.NoError(t, err, "record %d", i)
	}
	want := contentOf(t, undisturbed)
	for commands := int64(1); ; commands++ {
		var i interrupter
		db := opened(t, server.Database(t), i.options())
		results := db.SaveBatch(i.after(t.Context(), commands), batch)
		i.left.Store(0)
		if !slices.ContainsFunc(results, func(err error) bool { return err != nil }) {
			require.Greater(t, commands, int64(15), "it ran through too soon to have been broken off everywhere")
			return
		}
		for _, err := range results {
			require.ErrorIs(t, err, context.Canceled)
			require.False(t, events.IsPermanent(err))
		}
		stored, err := db.Stored(t.Context())
		require.NoError(t, err)
		require.Empty(t, stored, "broken off after %d commands", commands)
		for i, err := range db.SaveBatch(t.Context(), batch) {
			require.NoError(t, err, "record %d, broken off after %d commands", i, commands)
		}
		require.Equal(t, want, contentOf(t, db), "broken off after %d commands", commands)
	}
}

// everyKindOfRecord returns a chat of users 1 and 2, and a group of theirs that user 3 joins, leaves and joins again, in one
// partition.
func everyKindOfRecord() []events.Record {
	seqs := make(map[int32]int64)
	first, second := record(seqs, 0, 1), record(seqs, 0, 2)
	chat, room := first.Message.Conversation, events.Group(5)
	inGroup := events.Message{MessageID: "m", ClientMsgID: "c", Conversation: room, From: 1, GroupID: 5, Content: "hello", MessageType: 1}
	records := []events.Record{first, second}
	for _, e := range []events.Event{
		{Type: events.MessageEdited, Conversation: chat, MessageID: first.Message.MessageID, MessageSeq: first.Seq, By: 1, Content: "edited"},
		{Type: events.MessageRecalled, Conversation: chat, MessageID: second.Message.MessageID, MessageSeq: second.Seq, By: 1},
		{Type: events.MessageRead, Conversation: chat, User: 2, MessageSeq: 1},
		{Type: events.GroupCreated, Conversation: room, GroupID: 5, User: 1, By: 1, Name: "five", Members: []int64{1, 2}},
		{Type: events.NewMessage, Message: &inGroup},
		{Type: events.MemberJoined, Conversation: room, GroupID: 5, User: 3, By: 1},
		{Type: events.MemberLeft, Conversation: room, GroupID: 5, User: 3, By: 1},
		{Type: events.MemberJoined, Conversation: room, GroupID: 5, User: 3, By: 1},
		{Type: events.GroupDissolved, Conversation: room, GroupID: 5, User: 1, By: 1},
	} {
		seq := int64(len(records) + 1)
		e.Timestamp, e.EventID = seq, fmt.Sprint(seq)
		records = append(records, events.Record{Event: e, Position: events.Position{Partition: first.Partition, Seq: seq}})
	}
	return records
}

// contentOf returns everything that the store can return about everyKindOfRecord.
func contentOf(t *testing.T, db *DB) []any {
	t.Helper()
	ctx := t.Context()
	var content []any
	add := func(v any, err error) {
		require.NoError(t, err)
		content = append(content, v)
	}
	for _, conversation := range []string{events.Direct(1, 2), events.Group(5)} {
		page, _, err := db.History(ctx, conversation, store.Page{Limit: 100})
		add(page, err)
	}
	add(db.Group(ctx, 5))
	add(db.Stored(ctx))
	whole := []events.Range{{Partition: everyKindOfRecord()[0].Partition, Through: events.MaxID}}
	for user := range int64(4) {
		heads, _, err := db.Heads(ctx, user, store.Place{}, 10)
		add(heads, err)
		add(db.Stays(ctx, user, 5))
		add(db.Memberships(ctx, user))
		add(db.Missed(ctx, user, whole, 100))
	}
	return content
}

func TestAServerThatIsGoneIsATransientError(t *testing.T) {
	t.Parallel()
	server := mongotest.Start(t)
	if !server.Ferret {
		t.Skip("this stops the server, which is not ours")
	}
	db := opened(t, server.Database(t))
	one := record(make(map[int32]int64), 1, 1)
	require.NoError(t, db.SaveBatch(t.Context(), []events.Record{one})[0])
	server.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := db.SaveBatch(ctx, []events.Record{one})[0]
	require.Error(t, err)
	require.False(t, events.IsPermanent(err), "got %v", err)
	require.Error(t, db.Ping(ctx))
	_, _, err = db.History(ctx, one.Message.Conversation, store.Page{Limit: 1})
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound)
}

func TestACallWithoutDeadlineEndsAllTheSame(t *testing.T) {
	t.Parallel()
	server := mongotest.Start(t)
	if !server.Ferret {
		t.Skip("this stops the server, which is not ours")
	}
	db := opened(t, server.Database(t), options.Client().SetTimeout(100*time.Millisecond))
	server.Stop(t)
	require.Error(t, db.Ping(t.Context()))
	_, err := db.Stored(t.Context())
	require.Error(t, err)
}

func TestAClosedStoreAnswersTransientErrors(t *testing.T) {
	db := opened(t, mongotest.Start(t).Database(t))
	require.NoError(t, db.Close())
	require.Error(t, db.Ping(t.Context()))
	err := db.SaveBatch(t.Context(), []events.Record{record(make(map[int32]int64), 1, 1)})[0]
	require.Error(t, err)
	require.False(t, events.IsPermanent(err))
}

func TestTextThatIsNoUTF8IsRefusedForGoodAndAlone(t *testing.T) {
	db := opened(t, mongotest.Start(t).Database(t))
	seqs := make(map[int32]int64)
	good, bad, after := record(seqs, 1, 1), record(seqs, 1, 2), record(seqs, 1, 3)
	bad.Message.Content = "\xff"
	results := db.SaveBatch(t.Context(), []events.Record{good, bad, after})
	require.NoError(t, results[0])
	require.True(t, events.IsPermanent(results[1]), "got %v", results[1])
	require.NoError(t, results[2])
	stored, err := db.Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, after.Seq, stored[after.Partition], "what can never be stored holds nothing up")
}

func TestNoErrorShowsThePassword(t *testing.T) {
	for _, uri := range []string{
		"mongodb://user:s3cr%zzet@127.0.0.1:1", "mongodb://user:s3cr/et@127.0.0.1:1", "mongodb://user:s3cr:et@127.0.0.1:1",
		"mongodb://user:s3cret@", "mongodb://user:s3cret@127.0.0.1:1/?w=-5", "user:s3cret",
		"mongodb://user:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=50",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := Open(ctx, uri)
		cancel()
		require.Error(t, err, uri)
		require.NotContains(t, err.Error(), "s3cr", uri)
	}
}

func TestTheDatabaseIsTheURIsPath(t *testing.T) {
	for uri, want := range map[string]string{
		"mongodb://host": "millrace", "mongodb://host/": "millrace", "mongodb://host?w=1": "millrace",
		"mongodb://a:1,b:2/chat?replicaSet=x": "chat", "mongodb+srv://u:p%2Fw@host/a%20b": "a b",
	} {
		require.Equal(t, want, databaseOf(uri), uri)
	}
}
