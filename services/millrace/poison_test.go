package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/infra/pubsub"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// trappedStore panics at one content while the trap is set.
type trappedStore struct {
	storeWriter
	trap *atomic.Bool
}

const trap = "trap"

func (s *trappedStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	for _, r := range batch {
		if s.trap.Load() && r.Message != nil && r.Message.Content == trap {
			panic("trapped")
		}
	}
	return s.storeWriter.SaveBatch(ctx, batch)
}

func trapped(set *atomic.Bool) fx.Option {
	return fx.Decorate(func(w storage.Store) storage.Store { return &trappedStore{w, set} })
}

// listed is a line of `poison list --json`.
type listed struct {
	ID, Handler, Reason, Position, Key string
	Replayed                           bool
}

func listPoison(t *testing.T, brokers brokerAddrs, args ...string) []listed {
	t.Helper()
	out, err := run(t, append([]string{"poison", "list", "--json", "--kafka-brokers=" + strings.Join(brokers, ",")}, args...)...)
	require.NoError(t, err)
	var all []listed
	for lines := json.NewDecoder(strings.NewReader(out)); lines.More(); {
		var l listed
		require.NoError(t, lines.Decode(&l))
		all = append(all, l)
	}
	return all
}

func TestEndToEndPoisonedMessageIsStoredInItsPlaceOnceItIsReplayed(t *testing.T) {
	besideOthers(t)
	var set atomic.Bool
	set.Store(true)
	var log pubsub.Bus
	d := startDevWith(t, t.TempDir(), trapped(&set), fx.Populate(&log))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "one")
	require.Equal(t, []string{"one"}, b.Reads(t, 1))
	before := b.Cursor()
	kept := a.Sends(t, client.ToUser(proof.Bob), trap)
	gone := a.Sends(t, client.ToUser(proof.Bob), trap)
	last := a.Sends(t, client.ToUser(proof.Bob), "two")
	keptSeq, goneSeq := b.Sees(t, "new_message").Seq, b.Sees(t, "new_message").Seq
	require.Equal(t, []string{"two"}, b.Reads(t, 1), "storage's trouble is not push's")
	require.Equal(t, []string{"one", "two"}, contents(eventually(t, b, last.Conversation, 2)))

	// The gateway refuses both while storage does not have the message; a foreign producer does not.
	for _, change := range []*events.Event{
		{Type: events.MessageEdited, MessageID: kept.MessageID, MessageSeq: keptSeq, Content: "edited"},
		{Type: events.MessageRecalled, MessageID: gone.MessageID, MessageSeq: goneSeq},
	} {
		change.Conversation, change.By, change.Timestamp = last.Conversation, proof.Alice, last.Timestamp
		value, err := events.Encode(change)
		require.NoError(t, err)
		msg := message.NewMessage("", value)
		msg.Metadata.Set(pubsub.KeyHeader, last.Conversation)
		require.NoError(t, log.Publisher().Publish(events.TopicMessages, msg))
	}

	storages := func() []listed { return listPoison(t, d.brokers, "--handler=storage", "--since=1h") }
	require.Eventually(t, func() bool { return len(storages()) == 4 }, proof.Patience, 10*time.Millisecond)
	for _, change := range storages()[2:] {
		require.Contains(t, change.Reason, "unknown message")
	}
	entry := storages()[0]
	require.Contains(t, entry.Reason, "trapped")
	require.Equal(t, last.Conversation, entry.Key)
	brokers := "--kafka-brokers=" + strings.Join(d.brokers, ",")
	shown, err := run(t, "poison", "show", entry.ID, brokers)
	require.NoError(t, err)
	require.Contains(t, shown, `"content":"trap"`)
	require.Contains(t, shown, `poison_handler: "storage"`)
	table, err := run(t, "poison", "replay", "--reason=trapped", "--dry-run", brokers)
	require.NoError(t, err)
	require.Contains(t, table, "2 records\n")

	set.Store(false)
	said, err := run(t, "poison", "replay", entry.ID, storages()[1].ID, brokers)
	require.NoError(t, err)
	require.Contains(t, said, "2 records replayed: 2 to the handlers")
	require.Contains(t, said, "2 edits and recalls")
	require.Eventually(t, func() bool {
		history := contents(eventually(t, b, last.Conversation, 4))
		return slices.Equal([]string{"one", "edited", "", "two"}, history)
	}, proof.Patience, 10*time.Millisecond)
	require.Empty(t, storages(), "the changes went with their messages")
	require.Len(t, listPoison(t, d.brokers, "--replayed"), 4)
	said, err = run(t, "poison", "replay", "--all", brokers)
	require.NoError(t, err)
	require.Contains(t, said, "0 records replayed")

	// A client that resumes reads over the replay, and gets the message once, in its place.
	require.NoError(t, b.Close())
	back := proof.Join(t, d.url(), proof.Bob, before)
	a.Sends(t, client.ToUser(proof.Bob), "three")
	require.Equal(t, []string{"edited", "", "two", "three"}, back.Reads(t, 4))
}

func TestEndToEndMisplacedRecordIsSentHome(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	b := proof.Join(t, d.url(), proof.Bob, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer producer.Close()
	conversation := events.Direct(proof.Alice, proof.Bob)
	partitions := proof.Partitions(t, d.brokers)
	wrong := (events.Partition(conversation, partitions) + 1) % partitions
	value := []byte(`{"type":"new_message","message":{"from":1001,"to":1002,"content":"lost","message_type":1},"timestamp":1642678800}`)
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{
		Topic: events.TopicMessages, Partition: wrong, Key: []byte(conversation), Value: value,
	}).FirstErr())
	handlers := len(readers(t, d.brokers))
	wanting := handlers - 1 // groups does not want messages
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers)) == wanting }, proof.Patience, 10*time.Millisecond)

	said, err := run(t, "poison", "replay", "--reason=misplaced", "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.NoError(t, err)
	require.Contains(t, said, "1 record replayed: 0 to the handlers that failed, 1 misplaced sent home")
	require.Equal(t, []string{"lost"}, b.Reads(t, 1))
	require.Equal(t, []string{"lost"}, contents(eventually(t, b, conversation, 1)))
	require.Empty(t, listPoison(t, d.brokers))

	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: events.TopicMessages, Value: []byte("garbage")}).FirstErr())
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers)) == handlers }, proof.Patience, 10*time.Millisecond)
	said, err = run(t, "poison", "discard", "--handler=push", "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.NoError(t, err)
	require.Contains(t, said, "1 record discarded")
	require.Len(t, listPoison(t, d.brokers), handlers-1)
	require.Len(t, listPoison(t, d.brokers, "--replayed", "--handler=push"), 2)
}

func TestPoisonSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"some ids, a filter, or --all": {"poison", "discard"},
		"--rate=-1":                    {"poison", "replay", "--all", "--rate=-1"},
		"--since=yesterday":            {"poison", "list", "--since=yesterday"},
		"--since=-1h":                  {"poison", "list", "--since=-1h"},
		"--until=-1h":                  {"poison", "list", "--until=-1h"},
		"no poison queue":              {"poison", "list", "--topic=nonsense"},
		"no host:port":                 {"poison", "list", "--kafka-brokers=nowhere"},
	} {
		_, err := run(t, args...)
		require.ErrorContains(t, err, want)
	}
	d := startDev(t, t.TempDir())
	_, err := run(t, "poison", "show", "0:17", "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.ErrorContains(t, err, "not in the poison queue: 0:17")
}

func TestPoisonedValueCannotWriteToTheTerminal(t *testing.T) {
	require.Equal(t, `{"a":"é"}`, printable([]byte(`{"a":"é"}`)))
	for _, value := range []string{"\x1b[2J", "\xff", "a\rb"} {
		require.False(t, bytes.ContainsAny([]byte(printable([]byte(value))), "\x1b\xff\r"))
	}
}

func TestPoisonQueueOfUserEventsIsListedAndReplayed(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := proof.Join(t, d.url(), proof.Alice, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer producer.Close()
	partitions := proof.Partitions(t, d.brokers)
	wrong := (events.Partition("1002", partitions) + 1) % partitions
	for _, value := range []string{"garbage", `{"type":"user_offline","event_id":"e","user":1002,"timestamp":1642678800}`} {
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{
			Topic: events.TopicUsers, Partition: wrong, Key: []byte("1002"), Value: []byte(value),
		}).FirstErr())
	}
	require.Eventually(t, func() bool {
		return len(listPoison(t, d.brokers, "--topic="+events.TopicUsers, "--handler=users")) == 2
	}, proof.Patience, 10*time.Millisecond)
	require.Empty(t, listPoison(t, d.brokers))

	said, err := run(t, "poison", "replay", "--reason=misplaced", "--topic="+events.TopicUsers, "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.NoError(t, err)
	require.Contains(t, said, "1 misplaced sent home")
	require.Eventually(t, func() bool {
		present, err := a.Presence(t.Context(), proof.Bob)
		require.NoError(t, err)
		return present.LastSeen[proof.Bob] == 1642678800
	}, proof.Patience, 10*time.Millisecond)
}
