package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/handlers/audit"
	"millrace/handlers/push"
	"millrace/handlers/storage"
	"millrace/infra/broker"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/kafka"
	"millrace/infra/router"
	"millrace/infra/store/sqlite"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// codecs are the compressions that a producer can choose.
func codecs() []kgo.CompressionCodec {
	return []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
}

// produceForeign produces the record as a foreign producer would, and reports whether the broker accepted it.
func produceForeign(t *testing.T, brokers []string, codec kgo.CompressionCodec, r *kgo.Record) bool {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(64<<20), kgo.BrokerMaxWriteBytes(100<<20))
	require.NoError(t, err)
	defer producer.Close()
	err = producer.ProduceSync(t.Context(), r).FirstErr()
	if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidRecord) {
		return false
	}
	require.NoError(t, err)
	return true
}

// rig is what runs in a node that handles records: all handlers over a broker, the store and the audit log.
type rig struct {
	brokers []string
	bus     *kafka.Bus
	groups  []string
}

func newRig(t *testing.T) *rig {
	log := slog.New(slog.DiscardHandler)
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	config := kafka.Config{Brokers: []string{b.Addr()}, Partitions: 4}
	_, err = kafka.EnsureTopics(t.Context(), config, log)
	require.NoError(t, err)
	bus, err := kafka.NewBus(t.Context(), config, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "millrace.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	journal := audit.New(audit.Config{Path: filepath.Join(t.TempDir(), "audit.log")}, log)
	t.Cleanup(func() { require.NoError(t, journal.Close()) })
	admission, _, _, err := newAdmission(db, bus)
	require.NoError(t, err)
	saving, hub := storage.New(db, log), push.New(push.Options{}, admission, log)
	saving.Start()
	t.Cleanup(func() { require.NoError(t, saving.Stop(context.WithoutCancel(t.Context()))) })
	handlers := []events.Handler{saving.Handler(), hub.Handler(), journal.Handler()}
	r, err := router.New(bus, handlers, router.Options{RetryPause: time.Millisecond}, log)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		require.NoError(t, <-ended)
	})
	g := &rig{brokers: []string{b.Addr()}, bus: bus}
	for _, h := range handlers {
		g.groups = append(g.groups, h.Group)
	}
	return g
}

// settle waits until all handlers are done with everything in the log.
func (g *rig) settle(t *testing.T) {
	t.Helper()
	log := g.bus.Log(events.TopicMessages)
	end, err := log.End(t.Context())
	require.NoError(t, err)
	for _, group := range g.groups {
		require.Eventually(t, func() bool {
			committed, err := log.Committed(t.Context(), group)
			return err == nil && maps.Equal(end, committed)
		}, proof.Patience, 5*time.Millisecond, "%s is stuck", group)
	}
}

// poisonedAt returns the reasons for which handlers have given up the record at the position.
func (g *rig) poisonedAt(t *testing.T, at events.Position) map[string]string {
	t.Helper()
	entries, err := poison.New(g.bus, events.TopicMessages).Entries(t.Context())
	require.NoError(t, err)
	reasons := map[string]string{}
	for _, e := range entries {
		if e.Position == at.String() {
			reasons[e.Handler] = e.Reason
		}
	}
	return reasons
}

// foreign is a record as some other program may produce it.
type foreign struct {
	key, value  []byte
	size        int // if the value is shorter, it is repeated up to this many bytes
	header      string
	headerValue []byte
	headers     int // the others are named header1, header2 and so on
	codec       int // an index of codecs
	timestamp   int64
}

const validRecord = `{"type":"new_message","message":{"from":1,"to":2,"content":"x","message_type":1,"timestamp":1},"timestamp":1}`

func foreignRecords() []foreign {
	huge := strings.Replace(validRecord, `"x"`, `"`+strings.Repeat("x", 4000)+`"`, 1)
	return []foreign{
		{key: []byte("u:1:2"), value: []byte(validRecord), header: "type", headerValue: []byte("new_message"), headers: 1},
		{key: []byte("u:1:2"), value: []byte(huge), size: 1_000_000, timestamp: -1},
		{value: []byte(huge), size: 3_000_000, header: "a", headerValue: []byte("b"), codec: 4, timestamp: 1},
		{key: []byte{0xff}, header: "millrace_key", headerValue: []byte{0xfe}, headers: 2, codec: 1, timestamp: 1 << 62},
		{key: []byte("k"), value: []byte("x"), header: "poison_replayed", headerValue: []byte("0:0"), headers: 1, codec: 2},
		{key: []byte("k"), value: []byte(validRecord), header: "millrace_replay_handler", headerValue: []byte("storage"), headers: 1},
		{key: []byte("k"), value: []byte("x"), header: "_watermill_message_uuid", headerValue: bytes.Repeat([]byte("u"), 1000), headers: 300, codec: 3},
		{key: []byte("k"), value: []byte("x"), size: 900_000, header: "correlation_id", headerValue: bytes.Repeat([]byte("c"), 1000), headers: 900},
		{key: []byte("u:1:2"), value: []byte(`{"type":"from_the_future"}`), header: "x", headers: 3},
	}
}

// mutated returns a record that differs from it a little in every part.
func (f foreign) mutated(r *rand.Rand) foreign {
	damage := func(b []byte) []byte {
		b = bytes.Clone(b)
		for range r.IntN(4) {
			at := r.IntN(len(b) + 1)
			b = slices.Replace(b, at, min(len(b), at+r.IntN(3)), []byte{byte(r.Uint32())}[:r.IntN(2)]...)
		}
		return b
	}
	return foreign{
		key: damage(f.key), value: damage(f.value), size: r.IntN(f.size/10 + 1),
		header: string(damage([]byte(f.header))), headerValue: damage(f.headerValue), headers: r.IntN(f.headers/10 + 2),
		codec: r.IntN(len(codecs())), timestamp: f.timestamp ^ r.Int64()>>r.IntN(64),
	}
}

func (f foreign) record(partition int32) *kgo.Record {
	r := &kgo.Record{Topic: events.TopicMessages, Partition: partition, Key: f.key, Value: f.value, Timestamp: time.UnixMilli(f.timestamp)}
	if len(f.value) > 0 && f.size > len(f.value) {
		r.Value = bytes.Repeat(f.value, f.size/len(f.value))
	}
	for i := range f.headers {
		name := f.header
		if i > 0 {
			name = fmt.Sprint(f.header, i)
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: f.headerValue})
	}
	return r
}

// Whatever a producer gets into the log, all handlers go on after it. What they cannot handle is in the poison queue, once
// for each handler, with the reason.
func TestForeignRecordStopsNobody(t *testing.T) {
	besideOthers(t)
	g := newRig(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	records := foreignRecords()
	for i := range 60 {
		f := records[i%len(records)]
		if i >= len(records) {
			f = f.mutated(r)
		}
		g.takes(t, f)
	}
}

// takes requires that all handlers take the record, or put it into the poison queue, and then a good one.
func (g *rig) takes(t *testing.T, f foreign) {
	t.Helper()
	good := message.NewMessage("", []byte(validRecord))
	good.Metadata.Set(pubsub.KeyHeader, "u:1:2")
	r := f.record(events.Partition("u:1:2", 4))
	taken := produceForeign(t, g.brokers, codecs()[f.codec], r)
	require.NoError(t, g.bus.Publisher().Publish(events.TopicMessages, good))
	g.settle(t)
	at, err := g.bus.Position(good)
	require.NoError(t, err)
	require.Empty(t, g.poisonedAt(t, at), "the record behind is handled")
	if !taken {
		return
	}
	replay := ""
	for _, h := range r.Headers { // of several with the name the last counts
		if h.Key == pubsub.ReplayHandlerHeader {
			replay = string(h.Value)
		}
	}
	at = events.Position{Partition: r.Partition, Seq: events.Seq(0, r.Offset)}
	event, err := events.Decode(events.TopicMessages, at, r.Value)
	misplaced := event.Type.Known() && events.Partition(event.ConversationKey(), 4) != r.Partition
	if (err != nil || misplaced) && replay == "" {
		reasons := g.poisonedAt(t, at)
		require.Len(t, reasons, len(g.groups))
		for handler, reason := range reasons {
			require.NotEmpty(t, reason, handler)
		}
	}
}

// Content beyond the protocol's limit breaks no stream between nodes, no page of history and no resume.
func TestEndToEndForeignRecordOfAnySizeStopsNobody(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	first := a.Sends(t, client.ToUser(proof.Bob), "one")
	require.Equal(t, []string{"one"}, b.Reads(t, 1))
	before := b.Cursor()
	message := func(content string) []byte {
		return fmt.Appendf(nil, `{"type":"new_message","message":{"from":1001,"to":1002,"content":%q,"message_type":1,"timestamp":1},"timestamp":1}`, content)
	}
	huge := strings.Repeat("x", 3_000_000)
	partition := events.Partition(first.Conversation, proof.Partitions(t, d.brokers))
	flood := make([]kgo.RecordHeader, 900)
	for i := range flood {
		flood[i] = kgo.RecordHeader{Key: fmt.Sprint("header-", i), Value: []byte(huge[:1000])}
	}
	poisoned := 0
	for i, r := range []*kgo.Record{
		{Value: message(huge[:1_000_000])},
		{Value: message(huge)},
		{Value: message(huge[:32<<10+1]), Headers: flood},
		{Key: []byte(huge[:900_000]), Value: []byte("x")},
		{},
	} {
		for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression()} {
			r := *r
			r.Topic, r.Partition = events.TopicMessages, partition
			if produceForeign(t, d.brokers, codec, &r) {
				poisoned++
			}
		}
		last := a.Sends(t, client.ToUser(proof.Bob), fmt.Sprint(i))
		require.Equal(t, []string{fmt.Sprint(i)}, b.Reads(t, 1))
		require.Len(t, eventually(t, b, last.Conversation, i+2), i+2)
	}
	require.GreaterOrEqual(t, poisoned, 7, "what the broker's own limit does not keep out")
	handlers := len(readers(t, d.brokers))
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers)) == poisoned*handlers }, proof.Patience, 50*time.Millisecond)
	for _, e := range listPoison(t, d.brokers, "--handler=push") {
		require.NotEmpty(t, e.Reason)
	}
	tooLong := listPoison(t, d.brokers, "--reason=content of", "--handler=storage")
	require.NotEmpty(t, tooLong)
	shown, err := run(t, "poison", "show", tooLong[0].ID, "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.NoError(t, err)
	require.Contains(t, shown, huge[:1_000_000], "it is read in the topic")

	require.NoError(t, b.Close())
	back := proof.Join(t, d.url(), proof.Bob, before)
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, back.Reads(t, 5))

	removeAll(t, d.brokers, partition)
	shown, err = run(t, "poison", "show", tooLong[0].ID, "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.ErrorContains(t, err, "the log no longer has these records")
	require.Contains(t, shown, huge[:1000], "the first bytes")
	require.NotContains(t, shown, huge[:10_000])
	_, err = run(t, "poison", "replay", tooLong[0].ID, "--kafka-brokers="+strings.Join(d.brokers, ","))
	require.ErrorContains(t, err, "the log no longer has the originals of these")
	require.ErrorContains(t, err, tooLong[0].ID)
}

// removeAll removes all records of the partition, as retention does.
func removeAll(t *testing.T, brokers []string, partition int32) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	end, _ := ends.Lookup(events.TopicMessages, partition)
	offsets := make(kadm.Offsets)
	offsets.AddOffset(events.TopicMessages, partition, end.Offset, -1)
	_, err = admin.DeleteRecords(t.Context(), offsets)
	require.NoError(t, err)
}
