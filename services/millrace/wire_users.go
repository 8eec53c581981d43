package main

import (
	"context"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/handlers/push"
	"millrace/handlers/users"
	"millrace/infra/pubsub"
)

// seenStore is the part of a store that tells who is online and was last seen when.
type seenStore interface {
	LastSeen(ctx context.Context, ids []int64) (map[int64]events.Record, error)
	OnlineUsers(ctx context.Context, partition int32) ([]int64, error)
}

// userEvents is the topic user-events, and the store that the users handler keeps it in.
type userEvents struct {
	seenStore
	progress  func(context.Context) (map[int32]int64, error) // of the users handler
	publisher message.Publisher
	log       pubsub.Log
}

var _ push.Users = userEvents{}

// Behind implements [push.Users].
func (u userEvents) Behind(ctx context.Context) (map[int32]bool, error) {
	end, err := u.log.End(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := pubsub.Kept(ctx, u.log, users.Group, u.progress)
	if err != nil {
		return nil, err
	}
	behind := make(map[int32]bool)
	for partition, seq := range end {
		if stored[partition] < seq {
			behind[partition] = true
		}
	}
	return behind, nil
}

// PartitionOf implements [push.Users].
func (u userEvents) PartitionOf(user int64) int32 {
	return events.Partition(strconv.FormatInt(user, 10), u.log.Partitions())
}

// Publish implements [push.Users].
func (u userEvents) Publish(all []events.Event) error {
	records := make([]*message.Message, len(all))
	for i := range all {
		var err error
		if records[i], err = pubsub.NewRecord(&all[i]); err != nil {
			return err
		}
	}
	return u.publisher.Publish(events.TopicUsers, records...)
}
