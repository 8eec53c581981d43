package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"millrace/events"
	"millrace/infra/pubsub"
)

// topicPoll is the pause between attempts.
const topicPoll = 100 * time.Millisecond

// EnsureTopics creates the topics that do not exist yet and waits until every partition can be used. Several processes may
// call it at once. While brokers cannot be reached it tries again until the context ends. It fails at once if they refuse the
// credentials or their certificate is not to be trusted. It also fails if a topic has another number of partitions than
// configured, or than another topic, because keys would move to other partitions. It logs a replication other than
// configured. It returns how many partitions a topic has.
func EnsureTopics(ctx context.Context, c Config, log *slog.Logger) (partitions int32, err error) {
	c = c.withDefaults()
	client, err := newClient(c)
	if err != nil {
		return 0, fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	if err := checkAccess(ctx, c, client); err != nil {
		return 0, fmt.Errorf("connect to Kafka at %v: %w", c.Brokers, err)
	}
	admin := kadm.NewClient(client)
	var regular, poison []string
	all := c.allTopics()
	for _, topic := range all {
		if isPoison(topic) {
			poison = append(poison, topic)
		} else {
			regular = append(regular, topic)
		}
	}
	if partitions = c.Partitions; partitions == 0 {
		if partitions, err = customary(ctx, admin, regular); err != nil {
			return 0, err
		}
	}
	if err := create(ctx, admin, c, partitions, regularSettings(c), regular); err != nil {
		return 0, err
	}
	if err := create(ctx, admin, c, 1, poisonSettings(), poison); err != nil {
		return 0, err
	}
	topics, err := awaitTopics(ctx, admin, all...)
	if err != nil {
		return 0, err
	}
	if c.Partitions == 0 { // another process may have been configured otherwise and faster
		partitions = int32(len(topics[events.TopicMessages].Partitions))
	}
	for name, topic := range topics {
		if has := len(topic.Partitions); !isPoison(name) && has != int(partitions) {
			return 0, fmt.Errorf("topic %s has %d partitions, %s: the number is fixed for the life of a topic", name, has, expected(c, partitions))
		}
	}
	return partitions, warnOfReplication(ctx, admin, c, topics, log)
}

// allTopics returns all topics that must exist, poison queues included.
func (c *Config) allTopics() []string {
	topics := events.Topics()
	for _, topic := range c.Topics {
		topics = append(topics, topic, events.PoisonTopic(topic))
	}
	return topics
}

// Ensure implements pubsub.Bus. From then on the bus watches that the topics go on where they were, and makes those anew that
// are deleted.
func (b *Bus) Ensure(ctx context.Context, topics ...string) error {
	b.ensuring.Lock()
	defer b.ensuring.Unlock()
	c := b.withTopics()
	known := c.allTopics()
	topics = slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return slices.Contains(known, t) })
	if len(topics) == 0 {
		return nil
	}
	c.Topics = slices.Concat(c.Topics, topics)
	if _, err := EnsureTopics(ctx, c, b.log); err != nil {
		return err
	}
	if err := b.topics.loadAll(ctx, c.allTopics()); err != nil {
		return err
	}
	b.ensured.Store(&c.Topics)
	return b.continuity.look(ctx)
}

// withTopics returns the configuration with the topics that were ensured since.
func (b *Bus) withTopics() Config {
	c := b.config
	c.Topics = *b.ensured.Load()
	return c
}

// expected says which number of partitions a topic should have, and why.
func expected(c Config, partitions int32) string {
	if c.Partitions == 0 {
		return fmt.Sprintf("%s has %d", events.TopicMessages, partitions)
	}
	return fmt.Sprintf("configured are %d", c.Partitions)
}

// customary returns how many partitions the topics have that exist, or will have in a new cluster.
func customary(ctx context.Context, admin *kadm.Client, topics []string) (partitions int32, err error) {
	err = persist(ctx, func() error {
		meta, err := admin.Metadata(ctx, topics...)
		if err != nil {
			return err
		}
		for _, name := range topics {
			if topic := meta.Topics[name]; topic.Err == nil && len(topic.Partitions) > 0 {
				partitions = int32(len(topic.Partitions))
				return nil
			} else if topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("topic %s: %w", name, topic.Err)
			}
		}
		if partitions = events.DefaultPartitions; strings.HasPrefix(meta.Cluster, pubsub.EmbeddedCluster) {
			partitions = events.EmbeddedPartitions
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look up topics: %w", err)
	}
	return partitions, nil
}

// regularSettings returns the settings of topics that are not poison queues. The brokers decompress what a producer has
// compressed and hold the result to their size limit, so that no record batch is larger where it is consumed. Millrace itself
// compresses nothing.
func regularSettings(c Config) map[string]string {
	return map[string]string{
		"retention.ms":     strconv.FormatInt(c.Retention.Milliseconds(), 10),
		"compression.type": "uncompressed",
	}
}

// poisonSettings returns the settings of poison queues. They keep records for ever and accept every record that the router
// may write, whatever limit the brokers have.
func poisonSettings() map[string]string {
	return map[string]string{"retention.ms": "-1", "max.message.bytes": strconv.Itoa(1 << 20)}
}

// create returns when all the topics exist. It creates those that do not, with the settings.
func create(ctx context.Context, admin *kadm.Client, c Config, partitions int32, settings map[string]string, topics []string) error {
	configs := make(map[string]*string, len(settings)+1)
	for name, value := range settings {
		configs[name] = &value
	}
	if c.MinISR > 0 {
		value := strconv.Itoa(c.MinISR)
		configs[minISR] = &value
	}
	err := persist(ctx, func() error {
		responses, err := admin.CreateTopics(ctx, partitions, c.Replication, configs, topics...)
		for _, r := range responses.Sorted() {
			if r.Err == nil || errors.Is(r.Err, kerr.TopicAlreadyExists) {
				continue
			}
			err = fmt.Errorf("%w: %s", r.Err, r.ErrMessage)
			if !mayPass(r.Err) {
				return fmt.Errorf("%s: %w", r.Topic, err)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("create topics %v: %w", topics, err)
	}
	return nil
}

// persist calls try until it succeeds or fails for good, or the context ends. It then returns the last error.
func persist(ctx context.Context, try func() error) error {
	ticker := time.NewTicker(topicPoll)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil || !mayPass(err) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// mayPass reports whether the error can go away by itself, for example because brokers are still starting and there are too
// few for the replicas.
func mayPass(err error) bool {
	refused := new(kerr.Error)
	return !errors.As(err, &refused) || refused.Retriable || errors.Is(err, kerr.InvalidReplicationFactor)
}

// minISR is Kafka's name of the setting.
const minISR = "min.insync.replicas"

// warnOfReplication logs where existing topics differ from the configuration. The operator may change the replication of a
// topic in use, and should when they differ.
func warnOfReplication(ctx context.Context, admin *kadm.Client, c Config, topics kadm.TopicDetails, log *slog.Logger) error {
	if c.Replication > 0 {
		for _, topic := range topics.Sorted() {
			if has := topic.Partitions.NumReplicas(); has != int(c.Replication) {
				log.WarnContext(ctx, "a topic has another number of replicas than configured",
					slog.String("topic", topic.Topic), slog.Int("replicas", has), slog.Int("configured", int(c.Replication)))
			}
		}
	}
	if c.MinISR == 0 {
		return nil
	}
	var configs kadm.ResourceConfigs
	err := persist(ctx, func() (err error) {
		configs, err = admin.DescribeTopicConfigs(ctx, topics.Names()...)
		return err
	})
	if err != nil {
		return fmt.Errorf("look up topics: %w", err)
	}
	for _, topic := range configs {
		for _, config := range topic.Configs {
			if config.Key == minISR && config.MaybeValue() != strconv.Itoa(c.MinISR) {
				log.WarnContext(ctx, "a topic has another number of replicas that must be in sync than configured",
					slog.String("topic", topic.Name), slog.String("min_isr", config.MaybeValue()), slog.Int("configured", c.MinISR))
			}
		}
	}
	return nil
}

// awaitTopics asks until every partition of the topics has a leader and the leader responds for it. Apache Kafka confirms the
// creation of a topic before that, and names leaders before they know it.
func awaitTopics(ctx context.Context, admin *kadm.Client, names ...string) (kadm.TopicDetails, error) {
	var topics kadm.TopicDetails
	err := persist(ctx, func() (err error) {
		if topics, err = admin.ListTopics(ctx, names...); err != nil {
			return err
		}
		if err := ready(topics, names); err != nil {
			return err
		}
		return answers(ctx, admin, names)
	})
	if err != nil {
		return nil, fmt.Errorf("wait for topics: %w", err)
	}
	return topics, nil
}

func ready(topics kadm.TopicDetails, names []string) error {
	for _, name := range names {
		topic, ok := topics[name]
		switch {
		case !ok:
			return fmt.Errorf("topic %s is not there yet", name)
		case topic.Err != nil:
			return fmt.Errorf("topic %s: %w", name, topic.Err)
		}
		for _, p := range topic.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return fmt.Errorf("topic %s partition %d has no leader: %w", name, p.Partition, p.Err)
			}
		}
	}
	return nil
}

func answers(ctx context.Context, admin *kadm.Client, names []string) error {
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return err
	}
	return ends.Error()
}

func isPoison(topic string) bool { return strings.HasSuffix(topic, events.PoisonTopic("")) }
