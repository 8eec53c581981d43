package events

import "encoding/binary"

// The topics. Records of message-events and group-events have the conversation as their key, those of user-events the user, and
// those of system-events the notice's id or the name of the key that has called.
const (
	TopicMessages = "message-events"
	TopicUsers    = "user-events"
	TopicGroups   = "group-events"
	TopicSystem   = "system-events"
)

// DefaultPartitions is the default number of partitions of a topic, and EmbeddedPartitions that on an embedded broker, which
// serves one machine: every fetch names all partitions, so that with 64 of them a message takes twice as long. The number of a
// topic must never change, because conversations would move to other partitions.
const (
	DefaultPartitions  = 64
	EmbeddedPartitions = 8
)

// PoisonTopic returns the name of the poison queue: the topic that keeps the records of the topic which cannot be handled.
func PoisonTopic(topic string) string { return topic + ".poison" }

// Topics returns all topics that must exist, poison queues included.
func Topics() []string {
	topics := []string{TopicMessages, TopicUsers, TopicGroups, TopicSystem}
	for _, t := range topics[:4:4] {
		topics = append(topics, PoisonTopic(t))
	}
	return topics
}

// Partition returns the partition of the key among n, by the murmur2 hash as Kafka's own clients compute it.
func Partition(key string, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

// murmur2 is the hash of org.apache.kafka.common.utils.Utils.
func murmur2(key string) uint32 {
	const (
		seed  = 0x9747b28c
		mix   = 0x5bd1e995
		shift = 24
	)
	data := []byte(key)
	h := seed ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * mix
		k ^= k >> shift
		h = h*mix ^ k*mix
	}
	if len(data) > 0 {
		var rest [4]byte
		copy(rest[:], data)
		h = (h ^ binary.LittleEndian.Uint32(rest[:])) * mix
	}
	h ^= h >> 13
	h *= mix
	return h ^ h>>15
}
