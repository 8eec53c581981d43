package kafka

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/events"
)

// countFetches counts the broker's fetches from now on.
func countFetches(cluster *kfake.Cluster) *atomic.Int64 {
	var fetches atomic.Int64
	cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	return &fetches
}

// deleteRecords removes the records before the offset from partition 0, as retention would.
func deleteRecords(t *testing.T, brokers []string, topic string, before int64) {
	t.Helper()
	offsets := make(kadm.Offsets)
	offsets.AddOffset(topic, 0, before, -1)
	_, err := admin(t, brokers).DeleteRecords(t.Context(), offsets)
	require.NoError(t, err)
}

func TestEndIsTheLastRecordThatAReaderIsGiven(t *testing.T) {
	at := brokers(t)
	const epoch = 2
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at, Epoch: epoch})
	plain, one, two := foreign(t, at), transactional(t, at, topic+"-1"), transactional(t, at, topic+"-2")
	isEnd := func(offset int64, when string) {
		t.Helper()
		anew := open(t, Config{Brokers: at, Epoch: epoch}) // a process that has just started and knows nothing
		for _, b := range []*Bus{bus, anew, bus, anew} {
			end, err := b.Log(topic).End(t.Context())
			require.NoError(t, err)
			require.Equal(t, events.Seq(epoch, offset), end[0], when)
		}
	}
	isEnd(-1, "nothing was ever published")
	begin(t, one, topic, "a")
	end(t, one, kgo.TryAbort)
	isEnd(-1, "only an aborted record and its marker") // 0, 1
	require.NoError(t, plain.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
	isEnd(2, "a record of somebody else")
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 3)...))
	isEnd(5, "records of our own")
	begin(t, one, topic, "a", "b")
	isEnd(5, "open records")
	end(t, one, kgo.TryCommit)
	isEnd(7, "a marker") // at 8
	begin(t, two, topic, "a", "b")
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 1)...)) // 11
	isEnd(7, "our own behind an open transaction")
	end(t, two, kgo.TryAbort)
	isEnd(11, "our own, with a marker behind")
	for range 40 { // to 12 + 80
		begin(t, one, topic, "a")
		end(t, one, kgo.TryAbort)
	}
	isEnd(11, "many aborted records")
}

func TestEndOfAnIdlePartitionIsNotLookedForAgain(t *testing.T) {
	cluster, bus := faulty(t, Config{})
	one := transactional(t, cluster.ListenAddrs(), "one")
	begin(t, one, "topic", "a")
	end(t, one, kgo.TryCommit)
	fetches := countFetches(cluster)
	log := bus.Log("topic")
	for range 10 {
		end, err := log.End(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(1), end[0])
	}
	require.Equal(t, int64(2), fetches.Load(), "the marker, then the record before it")
	for i := range 10 {
		require.NoError(t, bus.Publisher().Publish("topic", numbered(i, i+1)...))
		end, err := log.End(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(i+3), end[0])
	}
	require.Equal(t, int64(2), fetches.Load(), "what this process publishes it knows to be records")
}

func TestEndOfAPartitionWithoutRecordsLeftIsItsBeginning(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 5)...))
	log := bus.Log(topic)
	end, err := log.End(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(5), end[0])
	deleteRecords(t, at, topic, 5)
	isEnd := func(want int64) {
		t.Helper()
		require.Eventually(t, func() bool {
			end, err := log.End(t.Context())
			return err == nil && end[0] == want
		}, 30*time.Second, 10*time.Millisecond)
	}
	isEnd(0)
	end, err = open(t, Config{Brokers: at}).Log(topic).End(t.Context())
	require.NoError(t, err)
	require.Zero(t, end[0])
	require.NoError(t, bus.Publisher().Publish(topic, numbered(5, 6)...))
	isEnd(6)
}

func TestSearchForTheLastRecordGoesOnWhereItStopped(t *testing.T) {
	known := newTails(1)
	step := func(before, width int64, found ...int64) (span, int64) {
		t.Helper()
		_, searches := known.last(map[int32]int64{0: before})
		s := searches[0]
		require.NotNil(t, s)
		w, ok := s.window(width, 0)
		require.True(t, ok)
		if len(found) > 0 {
			s.read(w, found[0], true)
		} else {
			s.read(w, 0, false)
		}
		known.keep(0, s)
		return w, s.last()
	}
	w, last := step(1000, 10)
	require.Equal(t, span{990, 1000}, w)
	require.Equal(t, int64(999), last, "for now")
	w, _ = step(1000, 10)
	require.Equal(t, span{980, 990}, w)
	w, _ = step(1005, 10)
	require.Equal(t, span{1000, 1005}, w, "what has come since")
	w, last = step(1005, 10, 975)
	require.Equal(t, span{970, 980}, w)
	require.Equal(t, int64(975), last)
	w, last = step(1010, 100)
	require.Equal(t, span{1005, 1010}, w)
	require.Equal(t, int64(975), last, "nothing has come since")
	lasts, searches := known.last(map[int32]int64{0: 1010})
	require.Empty(t, searches)
	require.Equal(t, map[int32]int64{0: 975}, lasts)
}

func BenchmarkEnd(b *testing.B) {
	at := brokers(b)
	topic := newTopic(b, at, 64)
	bus, other := open(b, Config{Brokers: at}), open(b, Config{Brokers: at})
	everywhere := make([]*message.Message, 256)
	for i := range everywhere {
		everywhere[i] = benchMessage(i)
	}
	for name, move := range map[string]func() error{
		"idle":                  func() error { return nil },
		"after our own records": func() error { return bus.Publisher().Publish(topic, everywhere...) },
		"after those of others": func() error { return other.Publisher().Publish(topic, everywhere...) },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				require.NoError(b, move())
				b.StartTimer()
				_, err := bus.Log(topic).End(b.Context())
				require.NoError(b, err)
			}
		})
	}
}
