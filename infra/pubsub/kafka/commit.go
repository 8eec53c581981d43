package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"millrace/events"
)

// commit is what a group has committed in a partition. When the topic is made anew or the partition is cut, the same offset
// belongs to another record. So the metadata of a commit says which topic and which epoch it means.
type commit struct {
	next    int64  // offset of the first record that is not done with
	topicID string // empty if another program made the commit
	epoch   int64  // of the last record that is done with
	begin   int64  // the offset at which that epoch begins
}

// commitMetadata returns the metadata for a commit of the offset next.
func commitMetadata(e *events.Epochs, partition int32, next int64) string {
	if e.TopicID == "" {
		return ""
	}
	epoch, begin := e.At(partition, next-1)
	return e.TopicID + " " + strconv.FormatInt(epoch, 10) + " " + strconv.FormatInt(begin, 10)
}

func commitOf(o kadm.Offset) commit {
	c := commit{next: o.At}
	fields := strings.Fields(o.Metadata)
	if len(fields) != 3 {
		return c
	}
	epoch, err := strconv.ParseInt(fields[1], 10, 64)
	begin, err2 := strconv.ParseInt(fields[2], 10, 64)
	if err == nil && err2 == nil {
		c.topicID, c.epoch, c.begin = fields[0], epoch, begin
	}
	return c
}

// resume returns the offset at which the group goes on.
func (c commit) resume(e *events.Epochs, partition int32) int64 {
	switch c.topicID {
	case "":
		return c.next
	case e.TopicID:
		return e.Next(events.Position{Partition: partition, Seq: events.Seq(c.epoch, c.next-1)})
	}
	if e.TopicID == "" {
		return c.next
	}
	return 0 // the commit was made in an earlier topic of the name
}

// commits returns what the group has committed in each partition. Partitions without a commit are absent.
func (b *Bus) commits(ctx context.Context, topic, group string) (map[int32]commit, error) {
	fetched, err := b.admin.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("offsets of group %s: %w", group, err)
	}
	commits := make(map[int32]commit, len(fetched[topic]))
	for p, o := range fetched[topic] {
		if o.Err != nil {
			return nil, fmt.Errorf("offset of group %s in %s partition %d: %w", group, topic, p, o.Err)
		}
		if o.At >= 0 {
			commits[p] = commitOf(o.Offset)
		}
	}
	return commits, nil
}
