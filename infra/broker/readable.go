package broker

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxUnpackedBytes is how large a batch may be, uncompressed. Consumers unpack all that a fetch brings them; a million bytes may
// become gigabytes.
const maxUnpackedBytes = 16 << 20

// keepReadable has the broker refuse batches that its consumers could not read, as Apache Kafka does: kfake looks at a batch's
// header only, and a consumer that meets a batch which it cannot read gets no further in the partition for ever. Compressed
// batches are kept uncompressed, as Kafka does for topics whose compression.type is that, so that the limits of a batch and of
// a fetch are those of what a consumer gets.
func keepReadable(cluster *kfake.Cluster, log *slog.Logger) {
	// kfake keeps the last request of every connection for as long as it keeps the function, so that is made anew at times.
	const renewAfter = 1024
	requests := 0
	cluster.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		produce, ok := request.(*kmsg.ProduceRequest)
		if requests++; requests < renewAfter {
			cluster.KeepControl()
		} else {
			cluster.DropControl()
			keepReadable(cluster, log)
		}
		if !ok {
			return nil, nil, false
		}
		err := unpackAll(produce)
		if err == nil {
			return nil, nil, false
		}
		log.Warn("records refused that nobody could read", slog.Any("error", err))
		if produce.Acks == 0 {
			return nil, nil, true
		}
		return refusal(produce, err), nil, true
	})
}

// unpackAll makes all batches of the request uncompressed, or says what is wrong with the first one that is not readable.
func unpackAll(r *kmsg.ProduceRequest) (err error) {
	for i, topic := range r.Topics {
		for j, partition := range topic.Partitions {
			if r.Topics[i].Partitions[j].Records, err = unpackBatch(partition.Records); err != nil {
				return fmt.Errorf("topic %s partition %d: %w", cmp.Or(topic.Topic, hex.EncodeToString(topic.TopicID[:])), partition.Partition, err)
			}
		}
	}
	return nil
}

// refusal refuses all that the request has: its sender makes unreadable batches.
func refusal(r *kmsg.ProduceRequest, why error) *kmsg.ProduceResponse {
	response, message := r.ResponseKind().(*kmsg.ProduceResponse), why.Error() //nolint:errcheck,forcetypeassert // by kmsg's contract
	for _, topic := range r.Topics {
		refused := kmsg.NewProduceResponseTopic()
		refused.Topic, refused.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = partition.Partition, kerr.InvalidRecord.Code, &message
			refused.Partitions = append(refused.Partitions, p)
		}
		response.Topics = append(response.Topics, refused)
	}
	return response
}

// Where in a batch of the current format things stand.
const (
	lengthAt     = 8
	magicAt      = 16
	crcAt        = 17
	attributesAt = 21
	countAt      = 57
	recordsAt    = 61
)

var errMalformed = errors.New("the batch's records are malformed")

// unpackBatch returns the batch uncompressed. It checks what kfake does not: the records. What has no header of the current
// format kfake refuses.
func unpackBatch(batch []byte) ([]byte, error) {
	if len(batch) < recordsAt || batch[magicAt] != 2 {
		return batch, nil
	}
	count := int(int32(binary.BigEndian.Uint32(batch[countAt:])))
	packed := batch[recordsAt:]
	if count < 1 {
		return nil, fmt.Errorf("the batch has %d records", count)
	}
	attributes := binary.BigEndian.Uint16(batch[attributesAt:])
	compression := int(attributes & compressionBits)
	records, err := unpack(compression, packed)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	r := recordReader{rest: records}
	for i := range count {
		if !r.record(int64(i)) {
			return nil, errMalformed
		}
	}
	switch {
	case len(r.rest) > 0:
		return nil, errMalformed
	case compression == uncompressed, !intact(batch):
		return batch, nil
	}
	plain := append(batch[:recordsAt:recordsAt], records...)
	binary.BigEndian.PutUint32(plain[lengthAt:], uint32(len(plain)-lengthAt-4))
	binary.BigEndian.PutUint16(plain[attributesAt:], attributes&^compressionBits)
	binary.BigEndian.PutUint32(plain[crcAt:], checksum(plain))
	return plain, nil
}

// compressionBits are those of the attributes that hold the compression.
const compressionBits = 7

// intact reports whether the batch is as long as it says and has the right checksum. Else kfake refuses it as it is.
func intact(batch []byte) bool {
	return int(binary.BigEndian.Uint32(batch[lengthAt:])) == len(batch)-lengthAt-4 &&
		binary.BigEndian.Uint32(batch[crcAt:]) == checksum(batch)
}

func checksum(batch []byte) uint32 {
	return crc32.Checksum(batch[attributesAt:], crc32.MakeTable(crc32.Castagnoli))
}

// recordReader walks over records without keeping anything of them.
type recordReader struct{ rest []byte }

// record reports whether a whole record comes next, with the place in the batch given.
func (r *recordReader) record(place int64) bool {
	length, ok := r.varint()
	if !ok || length < 1 || length > int64(len(r.rest)) {
		return false
	}
	record := recordReader{rest: r.rest[1:length]} // without its attributes
	r.rest = r.rest[length:]
	_, hasTime := record.varint()
	delta, hasDelta := record.varint()
	if !hasTime || !hasDelta || delta != place || !record.bytes(true) || !record.bytes(true) {
		return false
	}
	headers, ok := record.varint()
	if !ok || headers < 0 || headers > int64(len(record.rest)) {
		return false
	}
	for range headers {
		if !record.bytes(false) || !record.bytes(true) {
			return false
		}
	}
	return len(record.rest) == 0
}

// bytes skips a byte string, which may be null where that is allowed.
func (r *recordReader) bytes(nullable bool) bool {
	n, ok := r.varint()
	if !ok || n > int64(len(r.rest)) || n < -1 || n == -1 && !nullable {
		return false
	}
	r.rest = r.rest[max(n, 0):]
	return true
}

func (r *recordReader) varint() (int64, bool) {
	value, n := binary.Varint(r.rest)
	if n <= 0 {
		return 0, false
	}
	r.rest = r.rest[n:]
	return value, true
}
