package message

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/store/sqlite"
	millracev1 "millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a service over the memory bus and SQLite, called through gRPC. Nothing is stored before keep or storing is called.
type node struct {
	millracev1.MessageServiceClient
	service *Service
	bus     *busEdge
	db      *sqlite.DB
	store   *storeEdge

	uncopied atomic.Bool
}

func newNode(t testing.TB, config memory.Config) *node {
	t.Helper()
	return newNodeOver(t, memory.NewBus(config))
}

func newNodeOver(t testing.TB, bus *memory.Bus, hooks ...Hook) *node {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return newNodeWith(t, bus, db, hooks...)
}

func newNodeWith(t testing.TB, bus *memory.Bus, db *sqlite.DB, hooks ...Hook) *node {
	t.Helper()
	n := &node{bus: &busEdge{Bus: bus}, db: db, store: &storeEdge{Store: db}}
	n.service = newService(t, n.bus, n.store, hooks...)

	server := grpc.NewServer()
	millracev1.RegisterMessageServiceServer(server, n.service)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		if err := <-served; !errors.Is(err, grpc.ErrServerStopped) { // a test without a call may end before the server begins
			require.NoError(t, err)
		}
	})
	n.MessageServiceClient = millracev1.NewMessageServiceClient(conn)
	return n
}

// twoNodes returns two services over one log and store, which act as two nodes. One has a client; its records are stored, and
// its changes of groups copied unless uncopied is set.
func twoNodes(t testing.TB, uncopied bool) (*node, *Service) {
	t.Helper()
	n := newNode(t, memory.Config{})
	n.uncopied.Store(uncopied)
	n.storing(t)
	return n, newService(t, n.bus, n.db)
}

func newService(t testing.TB, bus pubsub.Bus, st Store, hooks ...Hook) *Service {
	t.Helper()
	s, err := New(Deps{Bus: bus, Store: st, Log: slog.New(slog.DiscardHandler), Hooks: hooks})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// publish publishes events and returns their positions.
func (n *node) publish(t testing.TB, all ...events.Event) []events.Position {
	t.Helper()
	positions := make([]events.Position, len(all))
	for i := range all {
		record, err := newRecord(&all[i], nil, "")
		require.NoError(t, err)
		require.NoError(t, n.bus.Publisher().Publish(events.TopicMessages, record))
		positions[i], err = n.bus.Position(record)
		require.NoError(t, err)
	}
	return positions
}

// forgetOriginals makes the node know no message that it has accepted, as after a restart.
func (n *node) forgetOriginals() {
	sent := n.service.originals.sent
	sent.mu.Lock()
	defer sent.mu.Unlock()
	clear(sent.recent)
	clear(sent.before)
}

// publishRaw publishes a foreign record to the key's partition.
func (n *node) publishRaw(t testing.TB, key, value string) {
	t.Helper()
	record := message.NewMessage("", []byte(value))
	record.Metadata.Set(pubsub.KeyHeader, key)
	require.NoError(t, n.bus.Publisher().Publish(events.TopicMessages, record))
}

// elsewhere returns a key that has another of the four partitions.
func elsewhere(key string) string {
	other := key
	for events.Partition(other, 4) == events.Partition(key, 4) {
		other += "x"
	}
	return other
}

// keep stores a partition up to a position, as the storage handler does.
func (n *node) keep(t testing.TB, partition int32, through int64) {
	t.Helper()
	stored, err := n.db.Stored(t.Context())
	require.NoError(t, err)
	var batch []events.Record
	ranges := []events.Range{{Partition: partition, After: stored[partition], Through: through}}
	err = n.bus.Log(events.TopicMessages).Read(t.Context(), ranges, func(raw pubsub.RawRecord) error {
		if e, err := events.Decode(events.TopicMessages, raw.Position, raw.Value); err == nil {
			batch = append(batch, events.Record{Event: e, Position: raw.Position})
		}
		return nil
	})
	require.NoError(t, err)
	for _, err := range n.db.SaveBatch(t.Context(), batch) {
		if !events.IsPermanent(err) { // such a record goes to the poison queue
			require.NoError(t, err)
		}
	}
}

func (n *node) keepAll(t testing.TB) {
	t.Helper()
	for p, end := range n.end(t) {
		n.keep(t, p, end)
	}
}

func (n *node) end(t testing.TB) map[int32]int64 {
	t.Helper()
	end, err := n.bus.Log(events.TopicMessages).End(t.Context())
	require.NoError(t, err)
	return end
}

// storing runs a storage handler, and one that copies changes of groups unless uncopied is set, until the test ends.
func (n *node) storing(t testing.TB) { n.consuming(t, storageGroup, events.TopicMessages, n.save) }

// storingUsers runs a handler of user-events until the test ends.
func (n *node) storingUsers(t testing.TB) {
	n.consuming(t, usersGroup, events.TopicUsers, func(t testing.TB, msg *message.Message) {
		pos, err := n.bus.Position(msg)
		if err != nil {
			t.Error(err)
			return
		}
		e, err := events.Decode(events.TopicUsers, pos, msg.Payload)
		if err == nil {
			err = n.db.SaveUsers(context.Background(), []events.Record{{Event: e, Position: pos}})
		}
		if err != nil {
			t.Error(err)
		}
	})
}

func (n *node) consuming(t testing.TB, group, topic string, handle func(testing.TB, *message.Message)) {
	t.Helper()
	subscriber, err := n.bus.Subscriber(group, pubsub.SubscriberConfig{})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	var done sync.WaitGroup
	done.Go(func() {
		for msg := range messages {
			handle(t, msg)
			msg.Ack()
		}
	})
	t.Cleanup(func() {
		require.NoError(t, subscriber.Close())
		done.Wait()
	})
}

func (n *node) save(t testing.TB, msg *message.Message) {
	pos, err := n.bus.Position(msg)
	if err != nil {
		t.Error(err)
		return
	}
	e, err := events.Decode(events.TopicMessages, pos, msg.Payload)
	if err != nil { // the record goes to the poison queue
		if err := n.db.Advance(context.Background(), map[int32]int64{pos.Partition: pos.Seq}); err != nil {
			t.Error(err)
		}
		return
	}
	err = n.db.SaveBatch(context.Background(), []events.Record{{Event: e, Position: pos}})[0]
	switch {
	case err != nil && !events.IsPermanent(err):
		t.Error(err)
	case err == nil && e.Type.On(events.TopicGroups) && !n.uncopied.Load():
		if err := n.bus.Bus.Publisher().Publish(events.TopicGroups, msg.Copy()); err != nil {
			t.Error(err)
		}
	}
}

// holdReads makes every reading of the log wait until release is called, at the latest when the test ends.
func (n *node) holdReads(t testing.TB) (release func()) {
	hold := make(chan struct{})
	n.bus.hold.Store(&hold)
	release = sync.OnceFunc(func() {
		n.bus.hold.Store(nil)
		close(hold)
	})
	t.Cleanup(release)
	return release
}

// queued waits until so many callers wait for the next reading of the log.
func (n *node) queued(t testing.TB, want int) {
	t.Helper()
	eventually(t, func() bool {
		n.service.tail.mu.Lock()
		defer n.service.tail.mu.Unlock()
		return len(n.service.tail.queue) == want
	})
}

// group creates a group that user 1 owns.
func (n *node) group(t testing.TB, members ...int64) *millracev1.Group {
	t.Helper()
	r, err := n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(1), Name: "g", Members: members})
	require.NoError(t, err)
	return r.GetGroup()
}

// openGroup creates a group that user 1 owns and anybody may join.
func (n *node) openGroup(t testing.TB, members ...int64) *millracev1.Group {
	t.Helper()
	r, err := n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(1), Name: "g", Members: members, Open: true})
	require.NoError(t, err)
	return r.GetGroup()
}

func by(user int64) *millracev1.Sender { return &millracev1.Sender{User: user} }

func requireCode(t testing.TB, want codes.Code, err error) {
	t.Helper()
	require.Equal(t, want, status.Code(err), "%v", err)
}

// eventually waits until the condition holds.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, time.Millisecond)
}
