package kafka

import (
	"crypto/tls"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/infra/pubsub"
)

// Config says how to reach the brokers. A field that is zero has the default that its comment names.
type Config struct {
	// Brokers lists some of the cluster's brokers as host:port; at least one.
	Brokers []string
	// TLS is the configuration for connections to the brokers. Nil means no TLS.
	TLS *tls.Config
	// SASL authenticates this process to the brokers.
	SASL SASL
	// ClientID names this process in the brokers' logs; default "millrace".
	ClientID string
	// InstanceID makes membership in consumer groups static: a process that comes back with the same id within the session
	// timeout gets its partitions back without a rebalance. Empty: dynamic. It must be unique among running processes.
	InstanceID string
	// Epochs keeps the epochs of the topics. With it the bus watches that the topics go on where they were. With nil it does
	// not, and all records are in the epoch Epoch.
	Epochs EpochStore
	Epoch  int64
	// Groups lists consumer groups by topic. At the start their commits tell how far the topic once went, and, if nobody
	// keeps the epochs, which these are.
	Groups map[string][]string
	// Topics lists topics beside [events.Topics] that must exist too, each with a poison queue.
	Topics []string
	// Incident is called when the bus finds that the log has lost something. It may be nil.
	Incident func(pubsub.Incident)

	// Partitions is the number of partitions that every topic has which [EnsureTopics] creates, except poison queues. Zero
	// stands for that of the topics that exist already, which in a new cluster is [events.EmbeddedPartitions] if an embedded
	// broker has made the cluster, and else [events.DefaultPartitions].
	Partitions int32
	// Replication is the replication factor of topics that are created; default the brokers' own.
	Replication int16
	// MinISR is how many replicas must have a record before the brokers acknowledge it, in topics that are created; default
	// the brokers' own.
	MinISR int
	// Retention is how long topics that are created keep records; default 7 days. Poison queues keep records for ever.
	Retention time.Duration

	// PublishTimeout is how long a Publish may take; default 4 s.
	PublishTimeout time.Duration
	// MaxPending bounds how many messages may be in publishing at once; default 8192. Further ones are refused with
	// [pubsub.ErrBusy].
	MaxPending int
}

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "millrace"
	}
	if c.Replication == 0 {
		c.Replication = -1
	}
	if c.Incident == nil {
		c.Incident = func(pubsub.Incident) {}
	}
	if c.Retention == 0 {
		c.Retention = 7 * 24 * time.Hour
	}
	if c.PublishTimeout == 0 {
		c.PublishTimeout = 4 * time.Second
	}
	if c.MaxPending == 0 {
		c.MaxPending = 8192
	}
	return c
}

const (
	dialTimeout = 5 * time.Second
	// metadataAge is how long a client uses what the brokers have told it about topics before it asks again.
	metadataAge = 250 * time.Millisecond
)

// newClient returns a client that connects when it is first used. It tries again sooner than franz-go does by default, so
// that a broker that was away is found within one publish timeout.
func newClient(c Config, opts ...kgo.Opt) (*kgo.Client, error) {
	security, err := securityOptions(c)
	if err != nil {
		return nil, err
	}
	return kgo.NewClient(slices.Concat([]kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.DialTimeout(dialTimeout),
		kgo.MetadataMinAge(metadataAge),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(50*time.Millisecond<<min(tries, 5), 500*time.Millisecond)
		}),
	}, security, opts)...)
}
