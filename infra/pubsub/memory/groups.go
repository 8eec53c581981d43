package memory

import (
	"context"
	"fmt"

	"millrace/infra/pubsub"
)

// groups is the bus as an operator sees its groups.
type groups struct{ bus *Bus }

// Groups implements pubsub.Bus.
func (b *Bus) Groups() pubsub.Groups { return groups{b} }

// List returns the groups. A group has at most one member that reads.
func (g groups) List(ctx context.Context, wanted func(group string) bool) (map[string]int, error) {
	g.bus.mu.Lock()
	defer g.bus.mu.Unlock()
	members := make(map[string]int)
	for at, partitions := range g.bus.groups {
		for _, p := range partitions {
			switch {
			case !wanted(at.group):
			case len(p.owner) == 0:
				members[at.group] = 1
			case p.get() > 0:
				members[at.group] += 0 // it exists
			}
		}
	}
	return members, ctx.Err()
}

// Begin moves a group that has acknowledged nothing.
func (g groups) Begin(ctx context.Context, group, topic string, at pubsub.Start) (bool, error) {
	partitions, progress := g.bus.topic(topic), g.bus.group(group, topic)
	for number := range at.Offsets {
		if number < 0 || int(number) >= len(partitions) {
			return false, fmt.Errorf("topic %s has no partition %d", topic, number)
		}
	}
	next := make([]int64, len(partitions))
	for i, p := range partitions {
		if progress[i].get() > 0 {
			return false, ctx.Err()
		}
		first, end := p.bounds()
		next[i] = max(first, at.Offsets[int32(i)])
		if !at.Time.IsZero() {
			next[i] = p.since(at.Time)
		}
		if next[i] > end {
			return false, fmt.Errorf("partition %d ends before offset %d", i, next[i])
		}
	}
	for i := range progress {
		progress[i].commit(next[i])
	}
	return true, ctx.Err()
}

// Delete forgets the group.
func (g groups) Delete(ctx context.Context, group string) error {
	g.bus.mu.Lock()
	defer g.bus.mu.Unlock()
	for at, partitions := range g.bus.groups {
		for _, p := range partitions {
			if at.group == group && len(p.owner) == 0 {
				return pubsub.ErrInUse
			}
		}
	}
	for at := range g.bus.groups {
		if at.group == group {
			delete(g.bus.groups, at)
		}
	}
	return ctx.Err()
}
