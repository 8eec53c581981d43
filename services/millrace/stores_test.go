package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
	"millrace/infra/store"
	"millrace/infra/store/mongo/mongotest"
	"millrace/services/client"
	"millrace/services/message"
	"millrace/services/millrace/proof"
)

// sentTwice is how many messages are sent twice.
var sentTwice = flag.Int("stores.messages", 2_000, "messages that are sent twice over each store")

// TestStoresBehaveAlikeBehindTheWholeSystem runs the whole system over each store.
func TestStoresBehaveAlikeBehindTheWholeSystem(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) { useStore(t, "") })
	t.Run("MongoDB", func(t *testing.T) { useStore(t, mongotest.Start(t).Database(t)) })
}

// overStore runs the whole system over MongoDB, or over SQLite if the URI is empty.
type overStore struct{ dir, mongoDB string }

func (o overStore) start(t *testing.T, replaced ...fx.Option) *dev {
	t.Helper()
	return startDevAs(t, o.dir, []string{"--mongodb-uri=" + o.mongoDB, "--send-rate=1000000"}, replaced...)
}

func useStore(t *testing.T, mongoDB string) {
	system := overStore{t.TempDir(), mongoDB}
	chatOverStore(t, system.start(t))
	replayOverStore(t, system)
	sendTwice(t, system)
}

// chatOverStore edits, recalls, reads and has a group.
func chatOverStore(t *testing.T, d *dev) {
	ctx := t.Context()
	a, b, c := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil), proof.Join(t, d.url(), proof.Carol, nil)
	one, two := a.Sends(t, client.ToUser(proof.Bob), "one"), a.Sends(t, client.ToUser(proof.Bob), "two")
	b.Sends(t, client.ToUser(proof.Alice), "three")
	last := eventually(t, a, one.Conversation, 3)[2]
	require.NoError(t, a.Do(ctx, client.Edit{Conversation: one.Conversation, MessageID: one.MessageID, Content: "uno"}))
	require.NoError(t, a.Do(ctx, client.Recall{Conversation: two.Conversation, MessageID: two.MessageID}))
	require.NoError(t, a.Do(ctx, client.Read{Conversation: one.Conversation, Seq: last.Seq}))
	require.Eventually(t, func() bool {
		return slices.Equal([]string{"uno", "", "three"}, contents(eventually(t, b, one.Conversation, 3)))
	}, proof.Patience, 10*time.Millisecond)

	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	to := client.ToGroup(group.GroupID)
	a.Sends(t, to, "before")
	_, err = a.Group(ctx, client.GroupAdd{GroupID: group.GroupID, User: proof.Carol})
	require.NoError(t, err)
	c.Sends(t, to, "with carol")
	_, err = a.Group(ctx, client.GroupRemove{GroupID: group.GroupID, User: proof.Carol})
	require.NoError(t, err)
	b.Sends(t, to, "after")
	room := events.Group(group.GroupID)
	require.Equal(t, []string{"before", "with carol", "after"}, contents(eventually(t, b, room, 3)))
	require.Equal(t, []string{"with carol"}, contents(eventually(t, c, room, 1)))

	heads := func(u *proof.User) []string {
		all, err := u.Conversations(ctx, client.Conversations{})
		require.NoError(t, err)
		var said []string
		for _, h := range all.Conversations {
			said = append(said, fmt.Sprintf("%s %q, %d unread", h.Conversation, h.Last.Content, h.Unread))
		}
		slices.Sort(said) // within one second there is no latest
		return said
	}
	direct := one.Conversation
	want := map[*proof.User][]string{
		a: {room + ` "after", 2 unread`, direct + ` "three", 0 unread`},
		b: {room + ` "after", 2 unread`, direct + ` "three", 1 unread`},
		c: nil,
	}
	for u, list := range want {
		require.Eventually(t, func() bool { return slices.Equal(list, heads(u)) }, proof.Patience, 10*time.Millisecond, "%v", list)
	}
	d.stop()
}

// replayOverStore stores a message after those behind it, which does not move the stored position back.
func replayOverStore(t *testing.T, system overStore) {
	var set atomic.Bool
	set.Store(true)
	var log pubsub.Bus
	var reader message.Store
	d := system.start(t, trapped(&set), fx.Populate(&log, &reader))
	defer d.stop()
	a := proof.Join(t, d.url(), proof.Alice, nil)
	to := client.ToUser(3000)
	a.Sends(t, to, "one")
	a.Sends(t, to, trap)
	conversation := a.Sends(t, to, "two").Conversation
	require.Equal(t, []string{"one", "two"}, contents(eventually(t, a, conversation, 2)))
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers)) == 1 }, proof.Patience, 10*time.Millisecond)
	awaitStored(t, log, reader)
	before, err := reader.Stored(t.Context())
	require.NoError(t, err)

	set.Store(false)
	said, err := run(t, "poison", "replay", "--reason=trapped", "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.NoError(t, err)
	require.Contains(t, said, "1 record replayed: 1 to the handlers")
	require.Equal(t, []string{"one", trap, "two"}, contents(eventually(t, a, conversation, 3)))
	after, err := reader.Stored(t.Context())
	require.NoError(t, err)
	for partition, seq := range before {
		require.GreaterOrEqual(t, after[partition], seq, "partition %d", partition)
	}
	a.Sends(t, to, "three") // a replay itself is not in the store, so only what follows it brings the stored position to the end of the log
	awaitStored(t, log, reader)
}

// forgetful keeps no marks, so that only the store can recognise repeats.
type forgetful struct{}

func (forgetful) Marked(_ context.Context, ids ...string) []events.Position {
	return make([]events.Position, len(ids))
}
func (forgetful) Mark(context.Context, ...router.Mark) {}

// sendTwice sends messages in twenty conversations, and sends all of them again after a restart.
func sendTwice(t *testing.T, system overStore) {
	const peers = 20
	each := *sentTwice / peers
	var first []string
	var log pubsub.Bus
	var reader message.Store
	forgetting := fx.Decorate(func(marksOf) marksOf { return func(string) router.Marks { return forgetful{} } })
	for range 2 {
		d := system.start(t, fx.Populate(&log, &reader), forgetting)
		a := proof.Join(t, d.url(), proof.Alice, nil)
		var sent []string
		for some := range slices.Chunk(proof.Numbered(0, each), 25) { // a few at a time in each lane
			var sending []*client.Sending
			for _, content := range some {
				for peer := range int64(peers) {
					sending = append(sending, a.Post(t.Context(), client.Send{
						Target: client.ToUser(2000 + peer), Content: content, ClientMsgID: "repeated " + content,
					}))
				}
			}
			for _, s := range sending {
				accepted, err := s.Wait()
				require.NoError(t, err)
				sent = append(sent, accepted.MessageID)
			}
		}
		if first == nil {
			first = sent
		}
		require.Equal(t, first, sent)
		for peer := range int64(peers) {
			a.Sends(t, client.ToUser(2000+peer), "the end")
		}
		awaitStored(t, log, reader)
		d.stop()
	}

	d := system.start(t, fx.Populate(&reader))
	a := proof.Join(t, d.url(), proof.Alice, nil)
	for peer := range int64(peers) {
		conversation := events.Direct(proof.Alice, 2000+peer)
		messages, more, err := reader.History(t.Context(), conversation, store.Page{Limit: 2 * each})
		require.NoError(t, err)
		require.False(t, more)
		var got []string
		var seqs []int64
		for _, m := range messages {
			got, seqs = append(got, m.Content), append(seqs, m.Seq)
		}
		// The repeats lie between the two ends: each message is where it was first.
		want := append(proof.Numbered(0, each), "the end", "the end")
		require.Equal(t, want, got)
		require.IsIncreasing(t, seqs)
		if peer == 0 {
			newest, err := a.History(t.Context(), client.History{Conversation: conversation, Limit: 20})
			require.NoError(t, err)
			require.Equal(t, want[len(want)-20:], contents(newest.Messages))
			require.True(t, newest.More)
		}
	}
}

// awaitStored waits until everything in the log is in the store.
func awaitStored(t *testing.T, log pubsub.Bus, reader message.Store) {
	t.Helper()
	end, err := log.Log(events.TopicMessages).End(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		stored, err := reader.Stored(t.Context())
		if err != nil {
			return false
		}
		for partition, seq := range end {
			if stored[partition] < seq {
				return false
			}
		}
		return true
	}, 3*proof.Patience, 20*time.Millisecond)
}
