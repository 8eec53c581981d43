package events

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestPartitionIsThatOfAKafkaClient(t *testing.T) {
	client := kgo.StickyKeyPartitioner(nil).ForTopic("")
	keys := []string{"a", "ab", "abc", "\xff\xfe\xfd", Direct(1001, 1002)}
	for id := range int64(1000) {
		keys = append(keys, Direct(id, 7*id), Group(id*id+1), strconv.FormatInt(id, 10))
	}
	for _, key := range keys {
		for _, n := range []int32{1, 3, DefaultPartitions, 1000} {
			want := client.Partition(&kgo.Record{Key: []byte(key)}, int(n))
			require.EqualValues(t, want, Partition(key, n), "key %q among %d", key, n)
		}
	}
}
