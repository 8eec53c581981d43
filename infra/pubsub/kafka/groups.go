package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"millrace/infra/pubsub"
)

// groups are the consumer groups of the cluster.
type groups struct{ bus *Bus }

// Groups returns the consumer groups of the cluster, also those of other programs.
func (b *Bus) Groups() pubsub.Groups { return groups{b} }

// List asks all brokers for the names and the coordinators for what is wanted, because a cluster may have thousands of groups
// of others.
func (g groups) List(ctx context.Context, wanted func(group string) bool) (map[string]int, error) {
	listed, err := g.bus.admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list consumer groups: %w", err)
	}
	names := slices.DeleteFunc(listed.Groups(), func(name string) bool { return !wanted(name) })
	members := make(map[string]int, len(names))
	if len(names) == 0 {
		return members, nil
	}
	described, err := g.bus.admin.DescribeGroups(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe consumer groups: %w", err)
	}
	for name, group := range described {
		if errors.Is(group.Err, kerr.GroupIDNotFound) {
			continue // it was deleted meanwhile
		}
		if group.Err != nil {
			return nil, fmt.Errorf("describe consumer group %s: %w", name, group.Err)
		}
		members[name] = len(group.Members)
	}
	return members, nil
}

// beginWait is how long Begin waits for the members of a group that has committed nothing to leave it. That of a process which
// was killed leaves when its session ends, after 6 s.
const beginWait = 10 * time.Second

// Begin commits for the group. Brokers refuse that as long as the group has members. If these stay, they are of other processes,
// which begin by themselves. In a new cluster the brokers make the topic of the commits first, for which Begin waits until the
// context ends.
func (g groups) Begin(ctx context.Context, group, topic string, at pubsub.Start) (bool, error) {
	for since := time.Now(); ; {
		begun, err := g.beginNow(ctx, group, topic, at)
		if !errors.Is(err, kerr.UnknownMemberID) {
			return begun, err
		}
		if time.Since(since) >= beginWait {
			return false, nil
		}
		select {
		case <-time.After(topicPoll):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (g groups) beginNow(ctx context.Context, group, topic string, at pubsub.Start) (bool, error) {
	var commits map[int32]commit
	err := persist(ctx, func() (err error) {
		commits, err = g.bus.commits(ctx, topic, group)
		return err
	})
	if err != nil || len(commits) > 0 {
		return false, err
	}
	next, err := g.start(ctx, topic, at)
	if err != nil {
		return false, err
	}
	var offsets kadm.Offsets
	for p, offset := range next {
		offsets.AddOffset(topic, p, offset, -1)
	}
	err = persist(ctx, func() error { return g.bus.admin.CommitAllOffsets(ctx, group, offsets) })
	if err != nil {
		return false, fmt.Errorf("begin of group %s: %w", group, err)
	}
	return true, nil
}

// start returns the offset at which each partition begins.
func (g groups) start(ctx context.Context, topic string, at pubsub.Start) (map[int32]int64, error) {
	first, err := g.bus.listOffsets(ctx, topic, earliest, readUncommitted)
	if err != nil {
		return nil, err
	}
	end, err := g.bus.listOffsets(ctx, topic, latest, readUncommitted)
	if err != nil {
		return nil, err
	}
	next := first
	if !at.Time.IsZero() {
		if next, err = g.bus.listOffsets(ctx, topic, at.Time.UnixMilli(), readUncommitted); err != nil {
			return nil, err
		}
	}
	for p, offset := range next {
		if offset < 0 { // no record is as new as that
			next[p] = end[p]
		}
	}
	for p, offset := range at.Offsets {
		switch last, ok := end[p]; {
		case !ok:
			return nil, fmt.Errorf("topic %s has no partition %d", topic, p)
		case offset > last: // a commit beyond the end would look as if the log had lost its end
			return nil, fmt.Errorf("partition %d of %s ends before offset %d: its next record gets %d", p, topic, offset, last)
		}
		next[p] = max(first[p], offset)
	}
	return next, nil
}

// Delete asks the group's coordinator.
func (g groups) Delete(ctx context.Context, group string) error {
	response, err := g.bus.admin.DeleteGroup(ctx, group)
	if err == nil {
		err = response.Err
	}
	switch {
	case errors.Is(err, kerr.NonEmptyGroup):
		return pubsub.ErrInUse
	case errors.Is(err, kerr.GroupIDNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("delete consumer group %s: %w", group, err)
	}
	return nil
}
