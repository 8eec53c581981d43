package broker

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batchOf returns a record batch in Kafka's format whose header says that it has count records.
func batchOf(compression int16, count int32, records []byte) []byte {
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, Attributes: compression, LastOffsetDelta: count - 1, NumRecords: count,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: records,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[crcAt:], checksum(raw))
	return raw
}

// recordOf returns a record at the place in its batch.
func recordOf(place int32, value []byte) []byte {
	r := kmsg.Record{OffsetDelta: place, Value: value}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	return r.AppendTo(nil)
}

func gzipOf(t testing.TB, data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func zstdOf(t testing.TB, data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(data, nil)
}

// produce sends the record batch as it is and returns the broker's error.
func produce(t *testing.T, client *kgo.Client, topicID kadm.TopicID, batch []byte) error {
	t.Helper()
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = batch
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = "topic", topicID, []kmsg.ProduceRequestTopicPartition{partition}
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 5000
	request.Topics = []kmsg.ProduceRequestTopic{topic}
	response, err := client.Broker(0).Request(t.Context(), request)
	require.NoError(t, err)
	return kerr.ErrorForCode(response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode) //nolint:errcheck,forcetypeassert // it fails
}

func TestBatchThatNobodyCouldReadIsRefused(t *testing.T) {
	b := start(t, "127.0.0.1:0", t.TempDir())
	client := connect(t, b.Addr())
	topic, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, -1, nil, "topic")
	require.NoError(t, err)
	one := recordOf(0, []byte("x"))
	bomb := make([]byte, 4*maxUnpackedBytes)
	for name, batch := range map[string][]byte{
		"no records":              batchOf(0, 0, nil),
		"fewer records than told": batchOf(0, 2, one),
		"more records than told":  batchOf(0, 1, append(recordOf(0, nil), recordOf(1, nil)...)),
		"another place":           batchOf(0, 1, recordOf(7, nil)),
		"garbage":                 batchOf(0, 1, []byte("garbage")),
		"a record cut off":        batchOf(0, 1, one[:len(one)-1]),
		"a length beyond":         batchOf(0, 1, append([]byte{127}, one[1:]...)),
		"no gzip":                 batchOf(1, 1, one),
		"no snappy":               batchOf(2, 1, one),
		"no lz4":                  batchOf(3, 1, one),
		"no zstd":                 batchOf(4, 1, one),
		"a gzip bomb":             batchOf(1, 1, gzipOf(t, bomb)),
		"a zstd bomb":             batchOf(4, 1, zstdOf(t, bomb)),
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, produce(t, client, topic.ID, batch), kerr.InvalidRecord)
		})
	}
	require.NoError(t, produce(t, client, topic.ID, batchOf(0, 1, one)))
	require.NoError(t, produce(t, client, topic.ID, batchOf(1, 1, gzipOf(t, recordOf(0, bomb[:3_000_000])))))
	damaged := batchOf(1, 1, gzipOf(t, one))
	damaged[crcAt]++
	require.ErrorIs(t, produce(t, client, topic.ID, damaged), kerr.CorruptMessage)
	require.Equal(t, []string{"x", string(bomb[:3_000_000])}, valuesOf(t, client, 2))
}

// The size of a fetch is limited by what it holds uncompressed.
func TestCompressedBatchIsKeptUncompressed(t *testing.T) {
	for compression, records := range [][]byte{1: gzipOf(t, recordOf(0, []byte("x"))), 4: zstdOf(t, recordOf(0, []byte("x")))} {
		if records == nil {
			continue
		}
		plain, err := unpackBatch(batchOf(int16(compression), 1, records))
		require.NoError(t, err)
		require.Equal(t, batchOf(0, 1, recordOf(0, []byte("x"))), plain)
	}
}

// valuesOf returns the values of the topic's first n records.
func valuesOf(t *testing.T, client *kgo.Client, n int) (values []string) {
	t.Helper()
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{"topic": {0: kgo.NewOffset().AtStart()}})
	for len(values) < n {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestBatchesThatClientsMakeAreAccepted(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(),
		"zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, "127.0.0.1:0", t.TempDir())
			client := connect(t, b.Addr(), kgo.ProducerBatchCompression(codec))
			_, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, -1, nil, "topic")
			require.NoError(t, err)
			records := []*kgo.Record{
				{Topic: "topic"},
				{Topic: "topic", Key: []byte{}, Value: []byte{}},
				{Topic: "topic", Key: []byte{0xff}, Value: bytes.Repeat([]byte("x"), 500_000)},
				{Topic: "topic", Value: []byte("y"), Headers: []kgo.RecordHeader{{Key: "", Value: nil}, {Key: "a", Value: []byte("b")}}},
			}
			want := make([]string, len(records))
			for i, r := range records {
				want[i] = string(r.Value)
			}
			require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
			require.Equal(t, want, valuesOf(t, client, len(records)))
		})
	}
}

// A client must be able to read what the broker accepts, with as many records as the header says.
func FuzzUnpackBatch(f *testing.F) {
	f.Add(int16(0), int32(1), recordOf(0, []byte("x")))
	f.Add(int16(0), int32(2), append(recordOf(0, nil), recordOf(1, []byte("y"))...))
	f.Add(int16(1), int32(1), gzipOf(f, recordOf(0, []byte("x"))))
	f.Add(int16(4), int32(1), zstdOf(f, recordOf(0, []byte("x"))))
	f.Add(int16(2), int32(1), []byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, compression int16, count int32, records []byte) {
		batch := batchOf(compression&7, count, records)
		batch, err := unpackBatch(batch)
		if err != nil {
			return
		}
		fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "topic"},
			&kmsg.FetchResponseTopicPartition{RecordBatches: batch, HighWatermark: int64(count)}, kgo.DefaultDecompressor(), nil)
		require.NoError(t, fetched.Err)
		require.Len(t, fetched.Records, int(count))
		require.EqualValues(t, count, next)
	})
}
