package connect_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/store"
	"millrace/infra/store/sqlite"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/message"
)

// world is the log that the fakes of push nodes and of the message service share, so that history, gaps and live traffic
// agree. The seq of a record is its place in its partition, from 1. The real message service says who has missed what.
type world struct {
	t          testing.TB
	partitions int32
	bus        *laggingBus
	db         *sqlite.DB
	store      *failingStore

	mu      sync.Mutex
	service *message.Service
	logs    map[int32][]*millracev1.Delivery
	records map[int32][]events.Record
	kept    map[int32]int64 // by partition, the stored position
	nodes   []*pushNode

	lazy      bool  // nothing is stored until keep is called
	readLimit int64 // how many records one ReadLog may read
	reads     int   // calls of ReadLog
	lookups   int   // calls of History for the newest message
}

func newWorld(t testing.TB, partitions int32) *world {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	w := &world{
		t: t, partitions: partitions, bus: &laggingBus{Bus: memory.NewBus(memory.Config{Partitions: partitions})},
		db: db, store: &failingStore{Store: db},
		logs: map[int32][]*millracev1.Delivery{}, records: map[int32][]events.Record{}, kept: map[int32]int64{}, readLimit: 1000,
	}
	w.restart()
	return w
}

// restart replaces the message service by a new one, which remembers nobody's groups.
func (w *world) restart() {
	service, err := message.New(message.Deps{Bus: w.bus, Store: w.store, Log: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
	w.t.Cleanup(service.Close)
	w.service = service
}

// set changes a condition of the world.
func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// append writes the event to the log and has it pushed.
func (w *world) append(e events.Event) events.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	value, err := events.Encode(&e)
	require.NoError(w.t, err)
	record := watermill.NewMessage("", value)
	record.Metadata.Set(pubsub.KeyHeader, e.ConversationKey())
	require.NoError(w.t, w.bus.Publisher().Publish(events.TopicMessages, record))
	pos, err := w.bus.Position(record)
	require.NoError(w.t, err)
	decoded, err := events.Decode(events.TopicMessages, pos, value)
	require.NoError(w.t, err)
	p, r := pos.Partition, events.Record{Event: decoded, Position: pos}
	d, err := events.DeliveryOf(&r)
	require.NoError(w.t, err)
	w.logs[p], w.records[p] = append(w.logs[p], d), append(w.records[p], r)
	if !w.lazy {
		w.keep(p, pos.Seq)
	}
	for _, n := range w.nodes {
		n.handle(p)
	}
	return pos
}

// keep stores the partition up to the position. The lock is held.
func (w *world) keep(p int32, through int64) {
	if through <= w.kept[p] {
		return
	}
	for _, err := range w.db.SaveBatch(context.Background(), w.records[p][w.kept[p]:through]) {
		require.NoError(w.t, err)
	}
	w.kept[p] = through
}

// keepAll stores everything.
func (w *world) keepAll() {
	w.set(func(w *world) {
		for p, end := range w.ends() {
			w.keep(p, end)
		}
	})
}

// trim removes everything from the log, as retention does.
func (w *world) trim() {
	w.set(func(w *world) {
		for p, end := range w.ends() {
			w.bus.Trim(events.TopicMessages, events.Position{Partition: p, Seq: end})
		}
	})
}

// laggingBus is a bus whose log has ends that lie some records back.
type laggingBus struct {
	*memory.Bus
	lag atomic.Int64
}

func (b *laggingBus) Log(topic string) pubsub.Log { return laggingLog{b.Bus.Log(topic), b} }

type laggingLog struct {
	pubsub.Log
	bus *laggingBus
}

func (l laggingLog) End(ctx context.Context) (map[int32]int64, error) {
	ends, err := l.Log.End(ctx)
	for p := range ends {
		ends[p] = max(ends[p]-l.bus.lag.Load(), 0)
	}
	return ends, err
}

// failingStore is a store that can fail for the calls of Sync.
type failingStore struct {
	message.Store
	down atomic.Bool
}

var errDown = errors.New("down")

func (s *failingStore) Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Missed(ctx, user, ranges, limit)
}

func (s *failingStore) Memberships(ctx context.Context, user int64) ([]store.Membership, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Memberships(ctx, user)
}

func (s *failingStore) Stays(ctx context.Context, user, group int64) ([]store.Membership, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Stays(ctx, user, group)
}

func (s *failingStore) Stored(ctx context.Context) (map[int32]int64, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Stored(ctx)
}

// newest returns a page with the newest message if the conversation has one.
func (w *world) newest(conversation string) *millracev1.HistoryResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	answer := &millracev1.HistoryResponse{}
	for _, d := range w.logs[events.Partition(conversation, w.partitions)] {
		if strings.Contains(string(d.GetPush()), `"type":"new_message"`) && strings.Contains(string(d.GetPush()), `"`+conversation+`"`) {
			answer.Messages = []*millracev1.StoredMessage{{Seq: d.GetSeq()}}
		}
	}
	return answer
}

func (w *world) message(from, to, group int64, content string) events.Event {
	conversation := events.Direct(from, to)
	if group != 0 {
		conversation = events.Group(group)
	}
	id := content[:min(len(content), events.MaxClientMsgBytes)]
	return events.Event{Type: events.NewMessage, Message: &events.Message{
		MessageID: events.MessageID(from, conversation, id), ClientMsgID: id, Conversation: conversation, From: from, To: to, GroupID: group,
		Content: content, MessageType: 1, Timestamp: 1,
	}}
}

func (w *world) membership(t events.Type, group, user int64, members ...int64) events.Event {
	return events.Event{Type: t, Conversation: events.Group(group), GroupID: group, User: user, By: user, Members: members}
}

func (w *world) say(from, to int64, content string) events.Position {
	return w.append(w.message(from, to, 0, content))
}

func (w *world) tell(from, group int64, content string) {
	w.append(w.message(from, 0, group, content))
}

func (w *world) ends() map[int32]int64 {
	ends := map[int32]int64{}
	for p := range w.partitions {
		ends[p] = int64(len(w.logs[p]))
	}
	return ends
}

// visible returns what the user may see of the partition in (after, through].
func (w *world) visible(user int64, p int32, after, through int64) []*millracev1.Delivery {
	member := map[string]bool{events.UserChannel(user): true}
	var seen []*millracev1.Delivery
	for _, d := range w.logs[p] {
		if d.GetSeq() > through {
			break
		}
		if d.GetSeq() > after && slices.ContainsFunc(d.GetChannels(), func(c string) bool { return member[c] }) {
			seen = append(seen, d)
		}
		follow(member, user, d)
	}
	return seen
}

func follow(member map[string]bool, user int64, d *millracev1.Delivery) {
	c := d.GetChange()
	switch {
	case c == nil:
	case slices.Contains(c.GetJoined(), user):
		member[events.Group(c.GetGroupId())] = true
	case slices.Contains(c.GetLeft(), user), c.GetDissolved():
		delete(member, events.Group(c.GetGroupId()))
	}
}

// messages returns the present message service.
func (w *world) messages() *message.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.service
}
