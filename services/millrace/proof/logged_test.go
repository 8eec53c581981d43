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
	messages map[string]bool // ids of the messages among them
	tagged   int
	broken   []string // what is not as the rules of writeRules say
}

// readLog reads message-events from its beginning to its end.
func readLog(ctx context.Context, brokers []string) (*logged, error) {
	kafka, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(events.TopicMessages),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, err
	}
	defer kafka.Close()
	ends, err := kadm.NewClient(kafka).ListEndOffsets(ctx, events.TopicMessages)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	starts, err := kadm.NewClient(kafka).ListStartOffsets(ctx, events.TopicMessages)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(end.Topic, end.Partition); end.Offset > start.Offset {
			left[end.Partition] = end.Offset
		}
	})
	l := &logged{events: map[string]bool{}, messages: map[string]bool{}}
	for len(left) > 0 {
		fetches := kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			l.add(r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return l, nil
}

func (l *logged) add(r *kgo.Record) {
	e, err := events.Decode(r.Topic, events.Position{Partition: r.Partition, Seq: r.Offset + 1}, r.Value)
	if err != nil {
		l.broken = append(l.broken, err.Error())
		return
	}
	l.events[e.EventID] = true
	content, want := e.Content, ""
	if e.Type == events.NewMessage {
		l.messages[e.Message.MessageID] = true
		content = e.Message.Content
	}
	if strings.HasSuffix(content, secretWord) || strings.HasSuffix(content, forbiddenWord) {
		l.broken = append(l.broken, fmt.Sprintf("%q was accepted", content))
	}
	if strings.HasSuffix(content, urgentWord) {
		want = "urgent"
		l.tagged++
	}
	at := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == events.TagsHeader })
	if got := at >= 0; got != (want != "") || got && string(r.Headers[at].Value) != want {
		l.broken = append(l.broken, fmt.Sprintf("%q: tags %t, not %q", content, got, want))
	}
}
