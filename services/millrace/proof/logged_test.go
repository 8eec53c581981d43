package proof

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
)

// logged is what message-events has.
type logged struct {
	events   map[string]bool // ids of all events
	records  map[string][]*kgo.Record
	routed   map[string]bool // ids of the events that have the route of urgentRoute
	messages map[string]bool // ids of the messages among them
	// groupChanges has the conversations of the events that change groups, by event id.
	groupChanges map[string]string
	tagged       int
	broken       []string // what is not as the rules of writeRules say
}

// readLog reads message-events from its beginning to its end.
func readLog(ctx context.Context, brokers []string) (*logged, error) {
	l := &logged{events: map[string]bool{}, messages: map[string]bool{}, records: map[string][]*kgo.Record{}, routed: map[string]bool{}, groupChanges: map[string]string{}}
	return l, readTopic(ctx, brokers, events.TopicMessages, l.add)
}

// readTopic passes all records that the topic has by now, in the order of their partitions.
func readTopic(ctx context.Context, brokers []string, topic string, visit func(*kgo.Record)) error {
	kafka, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer kafka.Close()
	ends, err := kadm.NewClient(kafka).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	starts, err := kadm.NewClient(kafka).ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(end.Topic, end.Partition); end.Offset > start.Offset {
			left[end.Partition] = end.Offset
		}
	})
	for len(left) > 0 {
		fetches := kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			visit(r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}

func (l *logged) add(r *kgo.Record) {
	e, err := events.Decode(r.Topic, events.Position{Partition: r.Partition, Seq: r.Offset + 1}, r.Value)
	if err != nil {
		l.broken = append(l.broken, err.Error())
		return
	}
	l.events[e.EventID] = true
	l.records[e.EventID] = append(l.records[e.EventID], r)
	if slices.Contains(events.GroupChanges(), e.Type) {
		l.groupChanges[e.EventID] = string(r.Key)
	}
	content, want := e.Content, ""
	if e.Type == events.NewMessage {
		l.messages[e.Message.MessageID] = true
		content = e.Message.Content
	}
	if strings.HasSuffix(content, secretWord) || strings.HasSuffix(content, forbiddenWord) {
		l.broken = append(l.broken, fmt.Sprintf("%q was accepted", content))
	}
	if strings.HasSuffix(content, urgentWord) {
		want = urgentRoute
		l.tagged++
		l.routed[e.EventID] = true
	}
	for _, name := range []string{events.TagsHeader, events.RoutesHeader} { // the route has the name of the tag
		if got, has := headerOf(r, name); got != want || has != (want != "") {
			l.broken = append(l.broken, fmt.Sprintf("%q: header %s %q, %t, not %q", content, name, got, has, want))
		}
	}
}

// headerOf returns the value of a record's header, if it has that.
func headerOf(r *kgo.Record, key string) (value string, has bool) {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value), true
		}
	}
	return "", false
}
