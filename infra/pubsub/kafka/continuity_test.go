package kafka

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/broker"
	"millrace/infra/pubsub"
)

// epochStore keeps epochs in memory.
type epochStore struct {
	mu     sync.Mutex
	epochs map[string]events.Epochs
	stored map[int32]int64
	down   error
}

func (s *epochStore) Epochs(_ context.Context, topic string) (events.Epochs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochs[topic], s.down
}

func (s *epochStore) SetEpochs(_ context.Context, topic string, e events.Epochs) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil || e.Version != s.epochs[topic].Version+1 {
		return false, s.down
	}
	if s.epochs == nil {
		s.epochs = make(map[string]events.Epochs)
	}
	s.epochs[topic] = e
	return true, nil
}

func (s *epochStore) Stored(context.Context) (map[int32]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored, s.down
}

func (s *epochStore) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func offsetOf(at int64, metadata string) kadm.Offset { return kadm.Offset{At: at, Metadata: metadata} }

// watched returns a bus that watches its topics, on a broker of its own.
func watched(t *testing.T, dir string, store EpochStore) (*Bus, *broker.Broker) {
	t.Helper()
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	c := Config{Brokers: []string{b.Addr()}, Partitions: 1, Epochs: store}
	_, err = EnsureTopics(t.Context(), c, logTo(t))
	require.NoError(t, err)
	return open(t, c), b
}

// consumption collects payloads and positions from a subscriber of the group until the test ends.
type consumption struct {
	mu   sync.Mutex
	text []string
	at   []int64
}

func consumes(t *testing.T, bus *Bus, group string, config pubsub.SubscriberConfig) *consumption {
	t.Helper()
	sub, err := bus.Subscriber(group, config)
	require.NoError(t, err)
	in, err := sub.Subscribe(context.WithoutCancel(t.Context()), events.TopicMessages)
	require.NoError(t, err)
	c := &consumption{}
	var done sync.WaitGroup
	done.Go(func() {
		for msg := range in {
			for _, r := range received(t, bus, msg) {
				c.mu.Lock()
				c.text, c.at = append(c.text, string(r.Value)), append(c.at, r.Seq)
				c.mu.Unlock()
			}
			msg.Ack()
		}
	})
	t.Cleanup(func() {
		require.NoError(t, sub.Close())
		done.Wait()
	})
	return c
}

// await waits for the texts and returns the position at which each came first. A text may come twice, because publishes tries
// again also when an attempt that it gave up got into the log.
func (c *consumption) await(t *testing.T, want ...string) (first []int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Contains(c.text, want[len(want)-1])
	}, 30*time.Second, time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, want, slices.Compact(slices.Clone(c.text)))
	require.True(t, slices.IsSorted(c.at), "positions ascend: %v", c.at)
	for _, text := range want {
		first = append(first, c.at[slices.Index(c.text, text)])
	}
	return first
}

// publishes tries until every text is accepted, as clients do.
func publishes(t *testing.T, bus *Bus, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.Eventually(t, func() bool {
			msg := message.NewMessage(text, []byte(text))
			msg.Metadata.Set(pubsub.KeyHeader, "key")
			return bus.Publisher().Publish(events.TopicMessages, msg) == nil
		}, 30*time.Second, 10*time.Millisecond)
	}
}

func TestTopicMadeAnewBeginsInALaterEpochForAllThatRun(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	other := open(t, Config{Brokers: []string{b.Addr()}, Partitions: 1, Epochs: store})
	first, second := consumes(t, bus, "first", pubsub.SubscriberConfig{Bundle: 128}), consumes(t, other, "second", pubsub.SubscriberConfig{})
	publishes(t, bus, "a", "b", "c")
	first.await(t, "a", "b", "c")
	second.await(t, "a", "b", "c")
	_, err := admin(t, []string{b.Addr()}).DeleteTopic(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return bus.Ready() != nil }, 30*time.Second, time.Millisecond)
	require.ErrorIs(t, bus.Ready(), pubsub.ErrUnsettled)
	require.ErrorIs(t, bus.Publisher().Publish(events.TopicMessages, message.NewMessage("", nil)), pubsub.ErrUnsettled)
	publishes(t, other, "d", "e", "f", "g")
	at := first.await(t, "a", "b", "c", "d", "e", "f", "g")
	require.Equal(t, []int64{1, 2, 3, events.Seq(1, 0)}, at[:4])
	require.Equal(t, at, second.await(t, "a", "b", "c", "d", "e", "f", "g"))
	end, err := bus.Log(events.TopicMessages).End(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, end[0], at[6])
	require.Eventually(t, func() bool {
		committed, err := bus.Log(events.TopicMessages).Committed(t.Context(), "first")
		return err == nil && committed[0] == end[0]
	}, 30*time.Second, time.Millisecond)
	// Its own producer may learn of the new topic later than that of the other bus.
	require.Eventually(t, func() bool { return bus.Ready() == nil }, 30*time.Second, time.Millisecond)
}

// The broker comes back with fewer records before anybody has looked again, and everybody goes on publishing meanwhile. Who
// publishes first knows of the lost records because it has published them, or because they are stored. No record may get a
// position that another one had.
func TestPublishingWaitsForALookWhenABrokerComesBack(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"published them": true, "finds them in the store": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, store := t.TempDir(), &epochStore{}
			bus, b := watched(t, dir, store)
			next := open(t, Config{Brokers: []string{b.Addr()}, Partitions: 1, Epochs: store})
			all := consumes(t, bus, "all", pubsub.SubscriberConfig{Bundle: 128})
			publishes(t, next, "a")
			file := filepath.Join(dir, "partitions", "message-events-0", "0.dat")
			info, err := os.Stat(file)
			require.NoError(t, err)
			publishes(t, bus, "b", "c", "d")
			all.await(t, "a", "b", "c", "d")
			if known {
				next = bus
			} else {
				store.set(func() { store.stored = map[int32]int64{0: 4} })
			}
			require.NoError(t, b.Close())
			require.NoError(t, os.Truncate(file, info.Size()))
			b, err = broker.Start(broker.Config{Addr: b.Addr(), DataDir: dir, Log: logTo(t)})
			require.NoError(t, err)
			defer func() { require.NoError(t, b.Close()) }()
			publishes(t, next, "e", "f", "g")
			at := all.await(t, "a", "b", "c", "d", "e", "f", "g")
			require.Equal(t, []int64{1, 2, 3, 4, events.Seq(1, 1)}, at[:5])
		})
	}
}

// The broker comes back with fewer records while everything that uses it goes on running.
func TestPartitionThatLosesItsEndWhileRunningGoesOnInALaterEpoch(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), &epochStore{}
	bus, b := watched(t, dir, store)
	ahead := consumes(t, bus, "ahead", pubsub.SubscriberConfig{Bundle: 128})
	publishes(t, bus, "a", "b")
	file := filepath.Join(dir, "partitions", "message-events-0", "0.dat")
	info, err := os.Stat(file)
	require.NoError(t, err)
	publishes(t, bus, "c", "d")
	ahead.await(t, "a", "b", "c", "d")
	require.Eventually(t, func() bool {
		floor, _ := bus.continuity.floor(place{events.TopicMessages, 0})
		return floor == 4
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, b.Close())
	require.NoError(t, os.Truncate(file, info.Size()))
	b, err = broker.Start(broker.Config{Addr: b.Addr(), DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	require.Eventually(t, func() bool { return bus.Ready() != nil }, 30*time.Second, time.Millisecond)
	publishes(t, bus, "e", "f", "g")
	at := ahead.await(t, "a", "b", "c", "d", "e", "f", "g")
	require.Equal(t, []int64{1, 2, 3, 4, events.Seq(1, 2)}, at[:5])
	behind := consumes(t, bus, "behind", pubsub.SubscriberConfig{Bundle: 128})
	require.Equal(t, append([]int64{1, 2}, at[4:]...), behind.await(t, "a", "b", "e", "f", "g"))

	log := bus.Log(events.TopicMessages)
	visit := func(pubsub.RawRecord) error { return nil }
	lost := []events.Range{{After: 2, Through: events.Seq(1, 3)}}
	require.ErrorIs(t, log.Read(t.Context(), lost, visit), pubsub.ErrTrimmed, "part of it was lost")
	require.Equal(t, map[int32]int64{0: events.Seq(1, 1)}, log.Current(map[int32]int64{0: 4}))
	require.NoError(t, log.Read(t.Context(), []events.Range{{After: events.Seq(1, 1), Through: events.Seq(1, 3)}}, visit))
}

// A commit whose metadata names another topic belongs to an earlier topic of the same name.
func TestCommitThatOutlivesItsTopicSkipsNothing(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	publishes(t, bus, "a", "b", "c")
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: events.TopicMessages, At: 2, LeaderEpoch: -1, Metadata: commitMetadata(&events.Epochs{TopicID: "before"}, 0, 2)})
	require.NoError(t, admin(t, []string{b.Addr()}).CommitAllOffsets(t.Context(), "group", offsets))
	consumes(t, bus, "group", pubsub.SubscriberConfig{Bundle: 128}).await(t, "a", "b", "c")
}

// While the store is down nobody can agree on an epoch, so nothing is published and no record is delivered.
func TestNothingIsPublishedToATopicWhoseEpochNobodyCanKeep(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	publishes(t, bus, "a")
	store.set(func() { store.down = context.DeadlineExceeded })
	require.NoError(t, bus.Ready())
	publishes(t, bus, "b") // a store that is down does not stop publishing
	_, err := admin(t, []string{b.Addr()}).DeleteTopic(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return bus.Ready() != nil }, 30*time.Second, time.Millisecond)
	for range 20 {
		require.Error(t, bus.continuity.look(t.Context()))
		require.ErrorIs(t, bus.Publisher().Publish(events.TopicMessages, message.NewMessage("", nil)), pubsub.ErrUnsettled)
	}
	store.set(func() { store.down = nil })
	publishes(t, bus, "c")
	consumes(t, bus, "group", pubsub.SubscriberConfig{}).await(t, "c")
}

// The store is replaced by an older one while everything runs. The group of its handler goes back as well.
func TestGroupGoesBackWhenTheStoreDoesWhileRunning(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	publishes(t, bus, "a", "b", "c")
	store.set(func() { store.stored = map[int32]int64{0: 3} })
	storage := consumes(t, bus, "storage", pubsub.SubscriberConfig{Bundle: 128, Progress: store.Stored})
	storage.await(t, "a", "b", "c")
	require.Eventually(t, func() bool {
		committed, err := bus.Log(events.TopicMessages).Committed(t.Context(), "storage")
		return err == nil && committed[0] == 3
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, bus.continuity.look(t.Context()))
	store.set(func() { store.stored = map[int32]int64{0: 1} })
	require.Eventually(t, func() bool {
		storage.mu.Lock()
		defer storage.mu.Unlock()
		return len(storage.text) >= 5
	}, 30*time.Second, time.Millisecond)
	storage.mu.Lock()
	defer storage.mu.Unlock()
	require.Equal(t, []string{"a", "b", "c", "b", "c"}, storage.text)
}

// This process has published nothing to the topic before it was made anew, so its producer takes the new topic for the only one.
// A broker recognises a batch that comes again by the producer and a number, so what is published once the epochs are settled
// must not look like what was published before.
func TestNothingIsTakenForARepeatOfWhatWasPublishedBeforeTheNewTopicWasNoticed(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	other := open(t, Config{Brokers: []string{b.Addr()}, Partitions: 1, Epochs: store})
	all := consumes(t, other, "all", pubsub.SubscriberConfig{Bundle: 128})
	publishes(t, other, "a", "b", "c", "d")
	all.await(t, "a", "b", "c", "d")
	require.NoError(t, bus.Publisher().Publish(events.TopicUsers, message.NewMessage("", nil))) // over a connection that stays
	require.NoError(t, bus.continuity.look(t.Context()))

	bus.continuity.one <- struct{}{} // it does not look for now
	_, err := admin(t, []string{b.Addr()}).DeleteTopic(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	_, err = EnsureTopics(t.Context(), Config{Brokers: []string{b.Addr()}, Partitions: 1}, logTo(t))
	require.NoError(t, err)
	early := message.NewMessage("early", []byte("early"))
	require.ErrorIs(t, bus.Publisher().Publish(events.TopicMessages, early), pubsub.ErrUnsettled)
	<-bus.continuity.one

	publishes(t, other, "e", "f")
	publishes(t, bus, "g")
	all.await(t, "a", "b", "c", "d", "early", "e", "f", "g")
	epochs, err := store.Epochs(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.Empty(t, epochs.Cuts, "nothing was lost")
}

// While epochs change, batches are on their way that were compared with the end of the log as it was before.
func TestNothingIsConcludedFromWhatIsPublishedWhileTheEpochsChange(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	publishes(t, bus, "a")
	at, before := place{events.TopicMessages, 0}, new(events.Epochs)
	require.ErrorIs(t, bus.continuity.got(at, before, 100, 0, 1), pubsub.ErrUnsettled)
	require.ErrorIs(t, bus.continuity.got(at, before, 100, 100, 101), pubsub.ErrUnsettled)

	record := &kgo.Record{Topic: at.topic, Partition: at.partition, Value: []byte("b")}
	calls, err := bus.publisher.enqueue(t.Context(), []*kgo.Record{record}, before)
	require.NoError(t, err)
	accepted, err := calls[0].wait(t.Context())
	require.ErrorIs(t, err, pubsub.ErrUnsettled)
	require.Zero(t, accepted)

	require.NoError(t, bus.continuity.look(t.Context()))
	require.NoError(t, bus.Ready())
	floor, _ := bus.continuity.floor(at)
	require.EqualValues(t, 1, floor, "the record was not sent")
	epochs, err := store.Epochs(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.Empty(t, epochs.Cuts)
}
