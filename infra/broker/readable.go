package broker

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxUnpackedBytes is how large a compressed batch may become. Consumers unpack a batch as a whole; one of a million bytes
// may become gigabytes.
const maxUnpackedBytes = 16 << 20

// refuseUnreadable has the broker refuse batches that its consumers could not read, as Apache Kafka does: kfake looks at a
// batch's header only, and a consumer that meets a batch which it cannot read gets no further in the partition for ever.
func refuseUnreadable(cluster *kfake.Cluster, log *slog.Logger) {
	// kfake keeps the last request of every connection for as long as it keeps the function, so that is made anew at times.
	const renewAfter = 1024
	requests := 0
	cluster.ControlKey(kmsg.Produce.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		produce, ok := request.(*kmsg.ProduceRequest)
		if requests++; requests < renewAfter {
			cluster.KeepControl()
		} else {
			cluster.DropControl()
			refuseUnreadable(cluster, log)
		}
		if !ok {
			return nil, nil, false
		}
		err := unreadable(produce)
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

// unreadable says what is wrong with the first batch of the request that is not readable.
func unreadable(r *kmsg.ProduceRequest) error {
	for _, topic := range r.Topics {
		for _, partition := range topic.Partitions {
			if err := checkBatch(partition.Records); err != nil {
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
	magicAt      = 16
	attributesAt = 21
	countAt      = 57
	recordsAt    = 61
)

var errMalformed = errors.New("the batch's records are malformed")

// checkBatch checks what kfake does not: the records. What has no header of the current format kfake refuses.
func checkBatch(batch []byte) error {
	if len(batch) < recordsAt || batch[magicAt] != 2 {
		return nil
	}
	count := int(int32(binary.BigEndian.Uint32(batch[countAt:])))
	packed := batch[recordsAt:]
	if count < 1 || count > len(packed) { // Sarama takes a batch with more records than bytes for one that is cut off
		return fmt.Errorf("the batch has %d records in %d bytes", count, len(packed))
	}
	records, err := unpack(int(binary.BigEndian.Uint16(batch[attributesAt:])&7), packed)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	r := recordReader{rest: records}
	for i := range count {
		if !r.record(int64(i)) {
			return errMalformed
		}
	}
	if len(r.rest) > 0 {
		return errMalformed
	}
	return nil
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
