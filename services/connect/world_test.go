package connect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/store"
	"millrace/infra/store/sqlite"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/message"
)

// world is the log that the fakes of push nodes and the message service stand on, so that history, gaps and live traffic
// agree. The seq of a record is its place in its partition, from 1. Who missed what, the real message service says.
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
	kept    map[int32]int64 // what is stored
	nodes   []*pushNode

	lazy      bool  // nothing is stored until keep is called
	readLimit int64 // records that ReadLog reads at once
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

// restart has a new message service answer, which remembers nobody's groups.
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

// keepAll stores all that there is.
func (w *world) keepAll() {
	w.set(func(w *world) {
		for p, end := range w.ends() {
			w.keep(p, end)
		}
	})
}

// trim takes out of the log what there is, as retention does.
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

// failingStore is a store that may be down for what Sync asks of it.
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

// newest has a message if the conversation has one.
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

// visible is what the user may see of the partition in (after, through].
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

// messageNode is a MessageService over the world.
type messageNode struct {
	millracev1.UnimplementedMessageServiceServer
	w *world
	// hold, if set, has batches wait until it is closed.
	hold    chan struct{}
	batches atomic.Int64
	// batch, if set, replaces what becomes of a batch; nil leaves it unanswered.
	batch func(*millracev1.SendBatch) *millracev1.SendBatchResult
	// beforeSync, if set, runs when a Sync comes in, before it looks at the log; afterSync when it has.
	beforeSync, afterSync func()
	// beforeMemberships, if set, runs when a Memberships comes in.
	beforeMemberships func()
	syncs             atomic.Int64
	// syncDown has Sync fail.
	syncDown atomic.Bool
	// stale has Memberships answer nothing.
	stale bool
}

func (n *messageNode) SendBatches(stream millracev1.MessageService_SendBatchesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the gateway has gone
		}
		response := &millracev1.SendBatchesResponse{}
		for _, b := range slices.Backward(request.GetBatches()) { // a node promises no order among batches
			n.batches.Add(1)
			if n.hold != nil {
				<-n.hold
			}
			handle := n.batch
			if handle == nil {
				handle = n.accept
			}
			if result := handle(b); result != nil {
				response.Results = append(response.Results, result)
			}
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// accept appends the batch's messages to the log, and has its changes answered as the calls of the same names are.
func (n *messageNode) accept(b *millracev1.SendBatch) *millracev1.SendBatchResult {
	result := &millracev1.SendBatchResult{Id: b.GetId()}
	for _, m := range b.GetMessages() {
		e := n.w.message(m.GetSender().GetUser(), m.GetTo(), m.GetGroupId(), m.GetContent())
		e.Message.ClientMsgID = m.GetClientMsgId()
		e.Message.MessageID = events.MessageID(m.GetSender().GetUser(), e.Message.Conversation, m.GetClientMsgId())
		n.w.append(e)
		result.Results = append(result.Results, &millracev1.SendResult{Sent: &millracev1.SendWSMessageResponse{
			MessageId: e.Message.MessageID, Conversation: e.Message.Conversation, Timestamp: 1,
		}})
	}
	for _, c := range b.GetChanges() {
		result.Results = append(result.Results, n.change(c))
	}
	return result
}

func (n *messageNode) Memberships(ctx context.Context, r *millracev1.MembershipsRequest) (*millracev1.MembershipsResponse, error) {
	if n.beforeMemberships != nil {
		n.beforeMemberships()
	}
	if n.stale {
		return &millracev1.MembershipsResponse{}, nil
	}
	return n.w.messages().Memberships(ctx, r)
}

// messages is the message service as it is now.
func (w *world) messages() *message.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.service
}

// answer collects what a Sync answers.
type answer struct {
	millracev1.MessageService_SyncServer
	all []*millracev1.SyncResponse
}

func (a *answer) Send(r *millracev1.SyncResponse) error {
	a.all = append(a.all, r)
	return nil
}

func (n *messageNode) Sync(r *millracev1.SyncRequest, stream millracev1.MessageService_SyncServer) error {
	if n.beforeSync != nil {
		n.beforeSync()
	}
	if n.syncDown.Load() {
		return status.Error(codes.Unavailable, "down")
	}
	n.w.set(func(w *world) {
		ends := w.ends()
		for p, seq := range r.GetHandled() {
			if seq > ends[p] {
				panic(fmt.Sprintf("handled %d of partition %d, which ends at %d", seq, p, ends[p]))
			}
		}
	})
	a := &answer{MessageService_SyncServer: stream}
	if err := n.w.messages().Sync(r, a); err != nil {
		return err
	}
	n.syncs.Add(1)
	if n.afterSync != nil {
		n.afterSync()
	}
	for _, response := range a.all {
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

func (n *messageNode) Ends(context.Context, *millracev1.EndsRequest) (*millracev1.EndsResponse, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return &millracev1.EndsResponse{End: n.w.ends()}, nil
}

func (n *messageNode) ReadLog(r *millracev1.ReadLogRequest, stream millracev1.MessageService_ReadLogServer) error {
	spans, err := n.w.readLog(r)
	if err != nil {
		return err
	}
	for _, span := range spans {
		if err := stream.Send(&millracev1.ReadLogResponse{Span: span}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) readLog(r *millracev1.ReadLogRequest) (spans []*millracev1.Span, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	p, after, through := r.GetPartition(), r.GetAfter(), r.GetThrough()
	if through == 0 {
		through = int64(len(w.logs[p]))
	}
	if through > int64(len(w.logs[p])) {
		panic(fmt.Sprintf("read of partition %d through %d, which ends at %d", p, through, len(w.logs[p])))
	}
	if through-after > w.readLimit {
		return nil, status.Error(codes.OutOfRange, "too long")
	}
	for seq := after; seq < through; {
		next := min(seq+3, through)
		spans = append(spans, &millracev1.Span{Partition: p, After: seq, Through: next, Deliveries: w.logs[p][seq:next]})
		seq = next
	}
	return spans, nil
}

// pushNode is a PushService over the world: it handles every record of the partitions it holds as it is written.
type pushNode struct {
	millracev1.UnimplementedPushServiceServer
	w *world
	// fault, if set, decides what becomes of a span: what it returns is sent in its place, in order.
	fault func(*attachment, *millracev1.Span) []*millracev1.Span

	// Under the world's lock.
	holds    map[int32]bool
	handled  map[int32]int64
	attached map[*attachment]struct{}
	mute     bool // takes up no interest
}

type attachment struct {
	out      chan *millracev1.AttachResponse
	broken   chan struct{}
	number   uint64
	interest map[string]bool
	sent     map[int32]int64
	held     []*millracev1.AttachRequest // while mute
}

func (w *world) newPushNode(holds ...int32) *pushNode {
	n := &pushNode{w: w, holds: map[int32]bool{}, handled: map[int32]int64{}, attached: map[*attachment]struct{}{}}
	for _, p := range holds {
		n.holds[p] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	return n
}

// handle takes the partition's new records; the world's lock is held, as in all that follows.
func (n *pushNode) handle(p int32) {
	if !n.holds[p] {
		return
	}
	for _, d := range n.w.logs[p][n.handled[p]:] {
		n.handled[p] = d.GetSeq()
		for a := range n.attached {
			if slices.ContainsFunc(d.GetChannels(), func(c string) bool { return a.interest[c] }) {
				n.cover(a, p, d)
			}
		}
	}
}

// cover sends a span up to what was handled.
func (n *pushNode) cover(a *attachment, p int32, deliveries ...*millracev1.Delivery) {
	span := &millracev1.Span{
		Partition: p, After: a.sent[p], Through: n.handled[p], Deliveries: deliveries, Interest: a.number,
	}
	a.sent[p] = n.handled[p]
	spans := []*millracev1.Span{span}
	if n.fault != nil {
		spans = n.fault(a, span)
	}
	for _, s := range spans {
		a.out <- &millracev1.AttachResponse{Spans: []*millracev1.Span{s}}
	}
}

// beat sends an empty span for every partition that moved.
func (n *pushNode) beat() {
	for a := range n.attached {
		for p := range n.holds {
			if a.sent[p] < n.handled[p] {
				n.cover(a, p)
			}
		}
	}
}

// take starts to hold a partition, from the position on.
func (n *pushNode) take(p int32, after int64) {
	for _, other := range n.w.nodes {
		delete(other.holds, p)
	}
	n.holds[p], n.handled[p] = true, after
	for a := range n.attached {
		a.sent[p] = after
		n.cover(a, p)
	}
	n.handle(p)
}

func (n *pushNode) Attach(stream millracev1.PushService_AttachServer) error {
	if hello, err := stream.Recv(); err != nil || hello.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "want hello first")
	}
	a := &attachment{
		out: make(chan *millracev1.AttachResponse, 1<<16), broken: make(chan struct{}), interest: map[string]bool{}, sent: map[int32]int64{},
	}
	n.w.set(func(*world) {
		n.attached[a] = struct{}{}
		for p := range n.holds {
			a.sent[p] = n.handled[p]
			n.cover(a, p)
		}
	})
	defer n.w.set(func(*world) { delete(n.attached, a) })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			n.w.set(func(*world) { n.request(a, request) })
		}
	}()
	for {
		select {
		case response := <-a.out:
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-a.broken:
			return status.Error(codes.ResourceExhausted, "broken")
		case <-gone:
			return nil
		}
	}
}

func (n *pushNode) request(a *attachment, r *millracev1.AttachRequest) {
	if _, ok := n.attached[a]; !ok {
		return // its stream is broken
	}
	switch kind := r.GetKind().(type) {
	case *millracev1.AttachRequest_Signal:
		for a := range n.attached {
			if a.interest[kind.Signal.GetChannel()] {
				a.out <- &millracev1.AttachResponse{Signals: []*millracev1.Signal{kind.Signal}}
			}
		}
	case *millracev1.AttachRequest_Interest:
		if n.mute {
			a.held = append(a.held, r)
			return
		}
		if kind.Interest.GetNumber() != a.number+1 {
			panic(fmt.Sprintf("interest %d after %d", kind.Interest.GetNumber(), a.number))
		}
		handled := map[int32]int64{}
		for p := range n.holds {
			handled[p] = n.handled[p]
			if a.sent[p] < n.handled[p] {
				n.cover(a, p) // with the number of the interest it regarded
			}
		}
		a.number++
		for _, c := range kind.Interest.GetAdd() {
			a.interest[c] = true
		}
		for _, c := range kind.Interest.GetRemove() {
			delete(a.interest, c)
		}
		a.out <- &millracev1.AttachResponse{Ack: &millracev1.InterestAck{
			Number: a.number, Handled: handled, Now: time.Now().UnixMicro(),
		}}
	}
}

// unmute takes up what was asked meanwhile.
func (n *pushNode) unmute() {
	n.mute = false
	for a := range n.attached {
		held := a.held
		a.held = nil
		for _, r := range held {
			n.request(a, r)
		}
	}
}

// interested reports whether a gateway has registered the channel with the node.
func (n *pushNode) interested(channel string) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for a := range n.attached {
		if a.interest[channel] {
			return true
		}
	}
	return false
}

func (n *pushNode) breakStreams() {
	for a := range n.attached {
		close(a.broken)
		delete(n.attached, a)
	}
}
