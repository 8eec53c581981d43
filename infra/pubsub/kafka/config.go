package kafka

import (
	"crypto/tls"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Config says how to reach the brokers. Zero values get the defaults named.
type Config struct {
	// Brokers are some of the cluster's host:port; at least one.
	Brokers []string
	// TLS to the brokers; nil: none.
	TLS *tls.Config
	// SASL authenticates this process to the brokers.
	SASL SASL
	// ClientID names this process in the brokers' logs; default "millrace".
	ClientID string
	// InstanceID makes membership in consumer groups static: a process that comes back with the same id within the session
	// timeout gets its partitions back without a rebalance. Empty: dynamic. It must be unique among running processes.
	InstanceID string
	// Epochs keeps the epochs of the topics, and has the bus watch that these go on where they were. Nil: it does not, and
	// the epoch of all is Epoch.
	Epochs EpochStore
	Epoch  int64
	// Groups are consumer groups by topic whose commits tell, at the start, how far the topic once went, and which its epochs
	// are where nobody keeps them.
	Groups map[string][]string
	// Incident is told what the log was found to have lost. May be nil.
	Incident func(pubsub.Incident)

	// Partitions of topics that [EnsureTopics] creates, poison queues excepted; default [events.DefaultPartitions].
	Partitions int32
	// Replication of topics that are created; default the brokers' own.
	Replication int16
	// MinISR is how many replicas must have a record before it is acknowledged, for topics that are created; default the
	// brokers' own.
	MinISR int
	// Retention of topics that are created; default 7 days. Poison queues keep records for ever.
	Retention time.Duration

	// PublishTimeout is how long a Publish may take; default 4 s.
	PublishTimeout time.Duration
	// MaxPending is how many messages may be in publishing at once; default 8192. One more is refused with
	// [pubsub.ErrBusy].
	MaxPending int
}

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "millrace"
	}
	if c.Partitions == 0 {
		c.Partitions = events.DefaultPartitions
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
	// metadataAge is how long a client goes by what the brokers have told it of topics before it asks anew.
	metadataAge = 250 * time.Millisecond
)

// newClient connects when it is first used. It tries again sooner than franz-go does by itself, so that a broker that
// was away is found again within one publish timeout.
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
