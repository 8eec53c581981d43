package broker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestRetentionRemovesOldRecordsButNeverAnEnd(t *testing.T) {
	dir := t.TempDir()
	second := startChild(t, "127.0.0.1:0", dir)
	client := connect(t, second.addr)
	admin := kadm.NewClient(client)
	week := "604800000"
	_, err := admin.CreateTopic(t.Context(), 2, -1, map[string]*string{"retention.ms": &week}, "week")
	require.NoError(t, err)
	forever := "-1"
	_, err = admin.CreateTopic(t.Context(), 1, -1, map[string]*string{"retention.ms": &forever}, "forever")
	require.NoError(t, err)

	now := time.Now()
	put := func(topic string, partition int32, age time.Duration) {
		record := &kgo.Record{Topic: topic, Partition: partition, Timestamp: now.Add(-age), Value: []byte("x")}
		require.NoError(t, client.ProduceSync(t.Context(), record).FirstErr())
	}
	const day = 24 * time.Hour
	for _, age := range []time.Duration{20 * day, 8 * day, 6 * day, 0} {
		put("week", 0, age)
		put("forever", 0, age)
	}
	for range 5 {
		put("week", 1, 30*day)
	}
	require.NoError(t, retain(t.Context(), second.addr, now))
	bounds := func(addr, topic string, partition int32) [2]int64 {
		admin := kadm.NewClient(connect(t, addr))
		starts, err := admin.ListStartOffsets(t.Context(), topic)
		require.NoError(t, err)
		ends, err := admin.ListEndOffsets(t.Context(), topic)
		require.NoError(t, err)
		first, _ := starts.Lookup(topic, partition)
		next, _ := ends.Lookup(topic, partition)
		return [2]int64{first.Offset, next.Offset}
	}
	require.Equal(t, [2]int64{2, 4}, bounds(second.addr, "week", 0))
	require.Equal(t, [2]int64{4, 5}, bounds(second.addr, "week", 1))
	require.Equal(t, [2]int64{0, 4}, bounds(second.addr, "forever", 0))

	require.NoError(t, second.cmd.Process.Kill())
	_ = second.cmd.Wait() // killed
	b := start(t, "127.0.0.1:0", dir)
	require.Equal(t, int64(5), bounds(b.Addr(), "week", 1)[1], "the killed broker gives offsets a second time")
}
