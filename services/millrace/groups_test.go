package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/handlers/groups"
	"millrace/handlers/handlertest"
	"millrace/handlers/route"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// admitAll is an admission for records about which the store is not asked.
type admitAll struct{}

func (admitAll) Assigned(events.Position)                    {}
func (admitAll) Released(int32)                              {}
func (admitAll) Admits(context.Context, *events.Record) bool { return true }

func openGroups(t *testing.T) handlertest.Subject {
	bus := memory.NewBus(memory.Config{Partitions: events.DefaultPartitions})
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	group := int64(1)
	for events.Partition(events.Group(group), events.DefaultPartitions) != handlertest.Partition() {
		group++
	}
	subject := handlertest.Subject{
		Handler: groups.Handler(admitAll{}, newCopies(bus)),
		Record: func(seq int64) events.Event {
			return events.Event{
				Type: events.GroupRenamed, EventID: fmt.Sprint(seq), Conversation: events.Group(group), GroupID: group, By: 1,
				Name: fmt.Sprint(seq), Timestamp: 1,
			}
		},
		// A consumer recognises a copy that was made again by its origin.
		Done: func(t *testing.T) (done []int64) {
			for _, c := range copiesOn(t, bus) {
				if !slices.Contains(done, c.Origin.Seq) {
					done = append(done, c.Origin.Seq)
				}
			}
			return done
		},
	}
	subject.TakeOver = func(*testing.T) handlertest.Subject { return subject }
	return subject
}

// copiesOn returns the copies in group-events.
func copiesOn(t *testing.T, bus pubsub.Bus) []events.Record {
	t.Helper()
	log := bus.Log(events.TopicGroups)
	end, err := log.End(t.Context())
	require.NoError(t, err)
	var ranges []events.Range
	for p, seq := range end {
		ranges = append(ranges, events.Range{Partition: p, Through: seq})
	}
	var copies []events.Record
	require.NoError(t, log.Read(t.Context(), ranges, func(r pubsub.RawRecord) error {
		origin, err := events.ParsePosition(r.Headers.Get(events.OriginHeader))
		require.NoError(t, err)
		e, err := events.Decode(events.TopicGroups, r.Position, r.Value)
		require.NoError(t, err)
		copies = append(copies, events.Record{Event: e, Position: r.Position, Origin: origin})
		return nil
	}))
	return copies
}

// dying is a publisher whose process dies after it has published, before that is known to anybody.
type dying struct {
	route.Publisher
	lives atomic.Int64
}

var errKilled = errors.New("killed")

func (d *dying) PublishCopies(ctx context.Context, topic string, copies []route.Copy) (int, error) {
	if d.lives.Load() <= 0 {
		return 0, errKilled
	}
	n, err := d.Publisher.PublishCopies(ctx, topic, copies)
	if d.lives.Add(-1) <= 0 {
		return 0, errKilled
	}
	return n, err
}

func TestNoCopyIsLostOrTakenForAnotherWhereverTheHandlerIsKilled(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	defer func() { require.NoError(t, bus.Close()) }()
	const changes = 20
	var want []string
	for i := range changes {
		e := events.Event{
			Type: events.GroupRenamed, EventID: fmt.Sprint(i), Conversation: events.Group(7), GroupID: 7, By: 1, Name: fmt.Sprint(i), Timestamp: 1,
		}
		msg, err := pubsub.NewRecord(&e)
		require.NoError(t, err)
		require.NoError(t, bus.Publisher().Publish(events.TopicMessages, msg))
		want = append(want, e.EventID)
	}
	run := func(h events.Handler) (stop func()) {
		r, err := router.New(bus, []events.Handler{h}, router.Options{RetryPause: time.Millisecond}, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(context.Background()) }()
		return func() {
			assert.NoError(t, r.Close())
			assert.NoError(t, <-ended)
		}
	}
	for range 4 { // processes, each of which dies between copying and committing
		d := &dying{Publisher: newCopies(bus)}
		d.lives.Store(1)
		died := run(groups.Handler(admitAll{}, d))
		proof.Await(t, func() bool { return d.lives.Load() <= 0 }, "it has copied")
		died()
	}
	stop := run(groups.Handler(admitAll{}, newCopies(bus)))
	defer stop()
	var mu sync.Mutex
	var seen []string
	consumed := run(events.Handler{
		Name: "members", Topic: events.TopicGroups, Group: "members-consumer-group",
		Handle: func(_ context.Context, r events.Record) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.EventID)
			return nil
		},
	})
	defer consumed()
	proof.Await(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) >= changes
	}, "all copies")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, want, seen, "a consumer under the router is told once of each, in their order")
	copies := copiesOn(t, bus)
	require.Greater(t, len(copies), changes, "copies were made again")
	for _, c := range copies {
		require.Equal(t, want[c.Origin.Seq-1], c.EventID)
	}
}

func TestEndToEndWhatIsStoredOfGroupsIsCopiedAndNothingElse(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := proof.Join(t, d.url(), proof.Alice, nil)
	group, err := a.Group(t.Context(), client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	name := events.Group(group.GroupID)
	proof.Await(t, func() bool { return count(t, d.brokers, events.TopicMessages) > 0 }, "the group is in the log")
	created := consume(t, d.brokers, events.TopicMessages, 1)[0]
	foreign := func(change string) {
		require.True(t, produceForeign(t, d.brokers, kgo.NoCompression(), &kgo.Record{
			Topic: events.TopicMessages, Key: []byte(name), Partition: created.Partition,
			Value:   fmt.Appendf(nil, `{%s,"conversation":%q,"group_id":%d,"unknown":1,"timestamp":1}`, change, name, group.GroupID),
			Headers: []kgo.RecordHeader{{Key: "region", Value: []byte("eu")}},
		}))
	}
	foreign(`"type":"member_joined","user":1003,"by":1001`) // a node that dies as soon as it has published
	foreign(`"type":"member_joined","user":1004,"by":1002`) // nobody whom the owner has asked
	a.Sends(t, client.ToGroup(group.GroupID), "hello")
	_, err = a.Group(t.Context(), client.GroupRename{GroupID: group.GroupID, Name: "old friends"})
	require.NoError(t, err)
	_, err = a.Group(t.Context(), client.GroupRemove{GroupID: group.GroupID, User: proof.Bob})
	require.NoError(t, err)
	proof.Await(t, func() bool { return count(t, d.brokers, events.TopicGroups) >= 4 }, "the copies")
	copies := consume(t, d.brokers, events.TopicGroups, count(t, d.brokers, events.TopicGroups))
	originals := consume(t, d.brokers, events.TopicMessages, count(t, d.brokers, events.TopicMessages))
	require.Len(t, copies, 4)
	for i, at := range []int{0, 1, 4, 5} {
		require.Equal(t, string(originals[at].Value), string(copies[i].Value))
		require.Equal(t, originals[at].Key, copies[i].Key)
		headers := headersOf(originals[at])
		headers[events.OriginHeader] = events.Position{Partition: originals[at].Partition, Seq: originals[at].Offset + 1}.String()
		got := headersOf(copies[i])
		delete(headers, "_watermill_message_uuid")
		delete(got, "_watermill_message_uuid")
		require.Equal(t, headers, got)
	}
}
