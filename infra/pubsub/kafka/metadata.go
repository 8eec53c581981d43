package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/infra/pubsub"
)

// topic is what this process knows of a topic: its id, the leader of every partition and, as long as the id stays the same,
// where the last records are. The number of partitions never changes.
type topic struct {
	name    string
	id      kadm.TopicID
	leaders []int32
	tails   *tails
}

func (t *topic) partitions() int32 { return int32(len(t.leaders)) }

// topics caches what is known of topics until forget is called.
type topics struct {
	admin *kadm.Client

	mu    sync.Mutex
	known map[string]*topic
}

func (t *topics) get(ctx context.Context, name string) (*topic, error) {
	t.mu.Lock()
	known, ok := t.known[name]
	t.mu.Unlock()
	if ok {
		return known, nil
	}
	return t.load(ctx, name)
}

// published notes which records of the batch, all of one partition, this process has published.
func (t *topics) published(batch kgo.ProduceResults) {
	at := place{batch[0].Record.Topic, batch[0].Record.Partition}
	t.mu.Lock()
	known, ok := t.known[at.topic]
	t.mu.Unlock()
	if !ok || at.partition >= known.partitions() {
		return
	}
	var records span
	for _, r := range batch {
		switch {
		case r.Err != nil || r.Record.Offset < 0:
		case r.Record.Offset == records.to:
			records.to++
		default:
			known.tails.publish(at.partition, records)
			records = span{r.Record.Offset, r.Record.Offset + 1}
		}
	}
	known.tails.publish(at.partition, records)
}

// forget drops what is known of the topics.
func (t *topics) forget(names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		delete(t.known, name)
	}
}

// load asks the brokers for a topic.
func (t *topics) load(ctx context.Context, name string) (*topic, error) {
	if err := t.loadAll(ctx, []string{name}); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.known[name]; ok {
		return known, nil
	}
	return nil, fmt.Errorf("topic %s: %w: %w", name, pubsub.ErrNoTopic, kerr.UnknownTopicOrPartition)
}

// loadAll asks the brokers for those of the topics that exist.
func (t *topics) loadAll(ctx context.Context, names []string) error {
	details, err := t.admin.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("look up topics: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, detail := range details {
		switch {
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
			delete(t.known, name)
			continue
		case detail.Err != nil:
			return fmt.Errorf("look up topic %s: %w", name, detail.Err)
		}
		leaders := make([]int32, len(detail.Partitions))
		for p, partition := range detail.Partitions {
			if int(p) >= len(leaders) {
				return fmt.Errorf("look up topic %s: partition %d of %d", name, p, len(leaders))
			}
			leaders[p] = partition.Leader
		}
		loaded := &topic{name: name, id: detail.ID, leaders: leaders}
		if before, ok := t.known[name]; ok && before.id == loaded.id && before.partitions() == loaded.partitions() {
			loaded.tails = before.tails
		} else {
			loaded.tails = newTails(len(leaders))
		}
		t.known[name] = loaded
	}
	return nil
}
