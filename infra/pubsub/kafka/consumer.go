package kafka

import (
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rcrowley/go-metrics"

	"millrace/infra/pubsub"
)

// fetchEnough is how many bytes a broker returns at once to a group that gathers records.
const fetchEnough = 256 << 10

// consumerConfig returns Sarama's configuration. Its version is that of the protocol, which Kafka 3 and 4 speak. The brokers keep
// records for as long as gather says, unless enough of them wait: every fetch names all partitions, so one for each record
// costs the brokers as much as the record itself.
func consumerConfig(c Config, gather time.Duration) *sarama.Config {
	s := sarama.NewConfig()
	s.Version = sarama.V3_0_0_0
	s.ClientID = c.ClientID
	s.MetricRegistry = unmeasured{metrics.NewRegistry()}
	secure(s, c)
	s.Net.DialTimeout = dialTimeout
	s.Net.ReadTimeout = 10 * time.Second
	s.Consumer.Return.Errors = true
	s.Consumer.IsolationLevel = sarama.ReadCommitted // records of aborted transactions are never delivered, those of open ones may yet be aborted
	s.Consumer.Retry.Backoff = 250 * time.Millisecond
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	s.Consumer.MaxWaitTime = 100 * time.Millisecond // a commit waits on the same connection until the poll before it returns
	if gather > 0 {
		s.Consumer.MaxWaitTime, s.Consumer.Fetch.Min = gather, fetchEnough
	}
	s.Consumer.Group.InstanceId = c.InstanceID
	s.Consumer.Group.Session.Timeout = 6 * time.Second
	s.Consumer.Group.Rebalance.Timeout = 6 * time.Second
	s.Consumer.Group.Rebalance.Retry.Backoff = 500 * time.Millisecond
	s.Consumer.Group.Rebalance.Retry.Max = 10
	s.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return s
}

// unmarshaler makes a message as Watermill's default unmarshaler does, and adds the record's key to the metadata. It cannot
// fail.
type unmarshaler struct{}

// Unmarshal implements Watermill's interface.
func (unmarshaler) Unmarshal(r *sarama.ConsumerMessage) (*message.Message, error) {
	return messageOf(r), nil
}

func messageOf(r *sarama.ConsumerMessage) *message.Message {
	headers := (*receivedHeaders)(r)
	msg := message.NewMessage(headers.ID(), r.Value)
	msg.Metadata = headers.All()
	return msg
}

// receivedHeaders are the headers of a record that Sarama has received, as Watermill's default unmarshaler gets them, with the key.
type receivedHeaders sarama.ConsumerMessage

// Get implements pubsub.Headers: of several headers with the name the last one counts.
func (r *receivedHeaders) Get(name string) string {
	if name == pubsub.KeyHeader {
		return string(r.Key) // a header of the name was set by a foreign producer
	}
	for _, h := range slices.Backward(r.Headers) {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

// All implements pubsub.Headers.
func (r *receivedHeaders) All() map[string]string {
	all := make(map[string]string, len(r.Headers)+1)
	for _, h := range r.Headers {
		if name := string(h.Key); name != kafka.UUIDHeaderKey && name != pubsub.KeyHeader {
			all[name] = string(h.Value)
		}
	}
	if len(r.Key) > 0 {
		all[pubsub.KeyHeader] = string(r.Key)
	}
	return all
}

// ID implements pubsub.Headers.
func (r *receivedHeaders) ID() string { return r.Get(kafka.UUIDHeaderKey) }
