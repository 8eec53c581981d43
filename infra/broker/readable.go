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

// maxUnpackedBytes is how large a record batch may be uncompressed. Consumers decompress all that a fetch brings, and a
// million bytes may become gigabytes.
const maxUnpackedBytes = 16 << 20

// keepReadable makes the broker refuse record batches that its consumers could not read, as Apache Kafka does. kfake looks
// only at a batch's header, and a consumer that meets an unreadable batch never gets past it. Compressed batches are stored
// uncompressed, as Kafka does for topics with compression.type=uncompressed, so that the limits of a batch and of a fetch
// count what a consumer gets.
func keepReadable(cluster *kfake.Cluster, log *slog.Logger) {
	// kfake keeps the last request of every connection alive as long as it keeps the function, so the function is renewed
	// from time to time.
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
		return refuseAll(produce, err), nil, true
	})
}

// unpackAll decompresses all record batches of the request. It returns an error for the first one that is not readable.
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

// refuseAll refuses the whole request, because its sender makes unreadable record batches.
func refuseAll(r *kmsg.ProduceRequest, why error) *kmsg.ProduceResponse {
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

// The places of the fields in a record batch of the current format.
const (
	lengthAt     = 8
	magicAt      = 16
	crcAt        = 17
	attributesAt = 21
	countAt      = 57
	recordsAt    = 61
)

var errMalformed = errors.New("the batch's records are malformed")

// unpackBatch returns the record batch uncompressed. It checks the records, which kfake does not. It leaves alone what has no
// header of the current format, because kfake refuses that.
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

// compressionBits are the bits of the attributes that hold the compression.
const compressionBits = 7

// intact reports whether the record batch has the length and the checksum that its header says. kfake refuses it if not.
func intact(batch []byte) bool {
	return int(binary.BigEndian.Uint32(batch[lengthAt:])) == len(batch)-lengthAt-4 &&
		binary.BigEndian.Uint32(batch[crcAt:]) == checksum(batch)
}

func checksum(batch []byte) uint32 {
	return crc32.Checksum(batch[attributesAt:], crc32.MakeTable(crc32.Castagnoli))
}

// recordReader walks over the records of a batch without keeping anything.
type recordReader struct{ rest []byte }

// record skips the next record and reports whether it is complete and at the given place in the batch.
func (r *recordReader) record(place int64) bool {
	length, ok := r.varint()
	if !ok || length < 1 || length > int64(len(r.rest)) {
		return false
	}
	record := recordReader{rest: r.rest[1:length]} // the first byte holds its attributes
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

// bytes skips a byte string, which may be null if nullable is set.
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
