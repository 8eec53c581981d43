package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// retainHourly removes what is older than its topic's retention.ms, at once and then every hour.
func retainHourly(ctx context.Context, addr string, log *slog.Logger) {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		if err := retain(ctx, addr, time.Now()); err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "remove old records", slog.Any("error", err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// retain removes the records that are too old, but never the last of a partition, which preserves the partition's end.
func retain(ctx context.Context, addr string, now time.Time) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	if len(topics) == 0 {
		return nil
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		return fmt.Errorf("read retention: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, topics.Names()...)
	if err != nil {
		return fmt.Errorf("list ends: %w", err)
	}
	before := make(kadm.Offsets)
	for _, topic := range configs {
		keep := retention(topic.Configs)
		if keep < 0 {
			continue
		}
		offsets, err := admin.ListOffsetsAfterMilli(ctx, now.Add(-keep).UnixMilli(), topic.Name)
		if err != nil {
			return fmt.Errorf("find old records of %s: %w", topic.Name, err)
		}
		offsets.Each(func(o kadm.ListedOffset) {
			end, ok := ends.Lookup(o.Topic, o.Partition)
			if to := min(o.Offset, end.Offset-1); ok && o.Err == nil && end.Err == nil && to > 0 {
				before.AddOffset(o.Topic, o.Partition, to, -1)
			}
		})
	}
	if len(before) == 0 {
		return nil
	}
	if _, err := admin.DeleteRecords(ctx, before); err != nil {
		return fmt.Errorf("delete old records: %w", err)
	}
	return nil
}

func retention(configs []kadm.Config) time.Duration {
	for _, c := range configs {
		if c.Key != "retention.ms" || c.Value == nil {
			continue
		}
		if ms, err := strconv.ParseInt(*c.Value, 10, 64); err == nil && ms >= 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	return -1
}
