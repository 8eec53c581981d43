package connect_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// world is the log that the fakes of message and push nodes stand on, so that history, gaps and live traffic agree. The
// seq of a record is its place in its partition, from 1.
type world struct {
	partitions int32

	mu    sync.Mutex
	logs  map[int32][]*millracev1.Delivery
	nodes []*pushNode

	storeDown     bool  // Sync cannot replay
	groupsUnknown bool  // and does not know the groups
	resumeLimit   int   // missed deliveries that Sync replays
	behind        bool  // history does not have what is beyond that
	endsLag       int64 // records that the node that answers Sync has not heard of
	readLimit     int64 // records that ReadLog reads at once
	reads         int   // calls of ReadLog
	lookups       int   // calls of History for the newest message
}

func newWorld(partitions int32) *world {
	return &world{partitions: partitions, logs: map[int32][]*millracev1.Delivery{}, resumeLimit: 1000, readLimit: 1000}
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
	p := events.Partition(e.ConversationKey(), w.partitions)
	pos := events.Position{Partition: p, Seq: int64(len(w.logs[p])) + 1}
	d, err := events.DeliveryOf(&events.Record{Event: e, Position: pos})
	if err != nil {
		panic(err)
	}
	w.logs[p] = append(w.logs[p], d)
	for _, n := range w.nodes {
		n.handle(p)
	}
	return pos
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
	return events.Event{Type: events.NewMessage, Message: &events.Message{
		MessageID: "m-" + content, ClientMsgID: content, Conversation: conversation, From: from, To: to, GroupID: group,
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

// memberships are the user's groups as of the ends.
func (w *world) memberships(user int64, ends map[int32]int64) []*millracev1.Membership {
	joined := map[int64]int64{}
	for p, end := range ends {
		for _, d := range w.logs[p][:end] {
			before := len(joined)
			member := map[string]bool{}
			group := d.GetChange().GetGroupId()
			if _, ok := joined[group]; ok {
				member[events.Group(group)] = true
			}
			follow(member, user, d)
			switch {
			case group == 0:
			case !member[events.Group(group)]:
				delete(joined, group)
			case before == len(joined) && joined[group] == 0:
				joined[group] = d.GetSeq()
			}
		}
	}
	var list []*millracev1.Membership
	for _, group := range slices.Sorted(maps.Keys(joined)) {
		list = append(list, &millracev1.Membership{GroupId: group, JoinedSeq: joined[group]})
	}
	return list
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

func (n *messageNode) Memberships(_ context.Context, r *millracev1.MembershipsRequest) (*millracev1.MembershipsResponse, error) {
	if n.beforeMemberships != nil {
		n.beforeMemberships()
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.w.groupsUnknown {
		return nil, status.Error(codes.Unavailable, "no store")
	}
	if n.stale {
		return &millracev1.MembershipsResponse{}, nil
	}
	return &millracev1.MembershipsResponse{Memberships: n.w.memberships(r.GetUser(), n.w.ends())}, nil
}

func (n *messageNode) Sync(r *millracev1.SyncRequest, stream millracev1.MessageService_SyncServer) error {
	if n.beforeSync != nil {
		n.beforeSync()
	}
	if n.syncDown.Load() {
		return status.Error(codes.Unavailable, "down")
	}
	answer := n.w.sync(r)
	n.syncs.Add(1)
	if n.afterSync != nil {
		n.afterSync()
	}
	for _, response := range answer {
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) sync(r *millracev1.SyncRequest) []*millracev1.SyncResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	ends := w.ends()
	for p, seq := range r.GetHandled() {
		if seq > ends[p] {
			panic(fmt.Sprintf("handled %d of partition %d, which ends at %d", seq, p, ends[p]))
		}
	}
	for p, end := range ends {
		ends[p] = max(end-w.endsLag, r.GetHandled()[p], 0)
	}
	if len(r.GetThrough()) > 0 {
		ends = r.GetThrough()
	}
	start := &millracev1.SyncStart{Recovered: true, Cursor: maps.Clone(ends), End: ends}
	maps.Copy(start.Cursor, r.GetCursor())
	var spans []*millracev1.Span
	missed := 0
	for p, end := range ends {
		after, asked := r.GetCursor()[p]
		if !asked || after >= end {
			continue
		}
		if w.storeDown {
			start.Incomplete = append(start.Incomplete, p)
			continue
		}
		seen := w.visible(r.GetUser(), p, after, end)
		if w.groupsUnknown {
			seen = slices.DeleteFunc(seen, func(d *millracev1.Delivery) bool {
				return !slices.Contains(d.GetChannels(), events.UserChannel(r.GetUser()))
			})
		}
		missed += len(seen)
		for _, d := range seen {
			spans = append(spans, &millracev1.Span{Partition: p, After: after, Through: d.GetSeq(), Deliveries: []*millracev1.Delivery{d}})
			after = d.GetSeq()
		}
		spans = append(spans, &millracev1.Span{Partition: p, After: after, Through: end})
	}
	switch {
	case missed > w.resumeLimit && w.behind:
		spans = nil
		for p, after := range r.GetCursor() {
			if through, ok := ends[p]; ok && after < through {
				start.Incomplete = append(start.Incomplete, p)
			}
		}
	case missed > w.resumeLimit:
		start, spans = &millracev1.SyncStart{Cursor: ends, End: ends}, nil
	}
	end := &millracev1.SyncEnd{MembershipsKnown: !w.groupsUnknown}
	spans, end.Rest = page(spans, r.GetPageBytes())
	if !w.groupsUnknown {
		end.Memberships = w.memberships(r.GetUser(), w.ends())
	}
	answer := []*millracev1.SyncResponse{{Kind: &millracev1.SyncResponse_Start{Start: start}}}
	for _, span := range spans {
		deliveries := &millracev1.SyncDeliveries{Spans: []*millracev1.Span{span}}
		answer = append(answer, &millracev1.SyncResponse{Kind: &millracev1.SyncResponse_Deliveries{Deliveries: deliveries}})
	}
	return append(answer, &millracev1.SyncResponse{Kind: &millracev1.SyncResponse_End{End: end}})
}

// page keeps the spans that the page has room for, and tells from where on the others are.
func page(spans []*millracev1.Span, bytes int64) (kept []*millracev1.Span, rest map[int32]int64) {
	rest = map[int32]int64{}
	for _, span := range spans {
		_, begun := rest[span.GetPartition()]
		switch {
		case begun:
			continue
		case bytes <= 0:
			rest[span.GetPartition()] = span.GetAfter()
			continue
		}
		kept = append(kept, span)
		for _, d := range span.GetDeliveries() {
			bytes -= int64(len(d.GetPush()))
		}
	}
	return kept, rest
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
