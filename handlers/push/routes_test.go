package push

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever happens in whatever order, the spans of every gateway follow each other without holes, and each span contains
// exactly the deliveries for the interest that it names.
func TestSpansChainWithoutHolesAndTellTheTruth(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 400 {
				w.step()
			}
			w.settleAll()
			w.routes.cover()
			w.drain()
			for _, g := range w.gateways {
				require.Equal(t, w.routes.partitions, g.last)
			}
			require.Positive(t, w.delivered)
		})
	}
}

const (
	worldPartitions = 3
	worldUsers      = 5
)

// world drives the routes as the router and gateways do, one step after the other, and checks every span.
type world struct {
	*testing.T
	*rand.Rand
	routes    routes
	logs      [worldPartitions]worldLog
	gateways  []*gatewayModel
	delivered int
}

// worldLog is a partition: its records, and how far this process has come with it.
type worldLog struct {
	records   []worldRecord // ascending, with holes
	held      bool
	at        int // the record being handled
	stage     int // how far that record has come: untouched, wanted, handled
	committed int // records acknowledged for certain
}

type worldRecord struct {
	seq      int64
	channels []string
	skipped  bool // the record was poisoned or is a repeat: it is never handled
}

// gatewayModel models an attached gateway.
type gatewayModel struct {
	gateway   *gateway
	interests []map[string]bool // by the number of the interest
	last      map[int32]int64
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{T: t, Rand: rand.New(rand.NewPCG(seed, 0)), routes: newRoutes()}
	for p := range w.logs {
		seq := int64(0)
		for range 200 {
			seq += 1 + w.Int64N(3)*w.Int64N(2)
			w.logs[p].records = append(w.logs[p].records, worldRecord{seq, w.someChannels(), w.IntN(5) == 0})
		}
	}
	return w
}

func (w *world) someChannels() []string {
	a, b := 1+w.Int64N(worldUsers), 1+w.Int64N(worldUsers)
	if w.IntN(3) == 0 {
		return []string{events.Group(a)}
	}
	return []string{events.UserChannel(a), events.UserChannel(b)} // now and then both are the same user
}

func (w *world) step() {
	switch k := w.IntN(20); {
	case k < 12:
		w.advance(w.IntN(worldPartitions))
	case k < 13:
		w.assign(w.IntN(worldPartitions))
	case k < 14:
		w.release(w.IntN(worldPartitions))
	case k < 16:
		w.attach()
	case k < 17:
		w.detach()
	case k < 19:
		w.change()
	default:
		w.routes.cover()
	}
	w.drain()
}

// advance moves the record being handled one stage further. Events of other partitions and of gateways come between the
// stages.
func (w *world) advance(p int) {
	l := &w.logs[p]
	if !l.held || l.at == len(l.records) {
		return
	}
	r := l.records[l.at]
	pos := events.Position{Partition: int32(p), Seq: r.seq}
	switch l.stage {
	case 0:
		l.stage = 2
		if !r.skipped && w.routes.wanted(pos, r.channels) {
			l.stage = 1
		}
	case 1:
		w.routes.deliver(pos, &millracev1.Delivery{Seq: r.seq, Channels: r.channels})
		l.stage = 2
	case 2:
		l.stage = 0
		if w.IntN(10) == 0 {
			return // the record was given back and comes again
		}
		w.routes.settle(pos)
		l.at++
		if w.IntN(2) == 0 {
			l.committed = l.at
		}
	}
}

func (w *world) assign(p int) {
	l := &w.logs[p]
	if l.held {
		return
	}
	// The process that had the partition meanwhile may have come further, or the last acknowledgements were lost.
	l.committed = min(l.committed+w.IntN(5), len(l.records))
	l.held, l.at, l.stage = true, l.committed, 0
	after := events.Position{Partition: int32(p)}
	if l.at > 0 {
		after.Seq = l.records[l.at-1].seq
	}
	w.routes.assign(after)
	for _, g := range w.gateways {
		g.last[after.Partition] = after.Seq
		spans := w.take(g)
		require.Len(w, spans, 1)
		require.Equal(w, []int64{after.Seq, after.Seq}, []int64{spans[0].GetAfter(), spans[0].GetThrough()})
	}
}

func (w *world) release(p int) {
	l := &w.logs[p]
	if !l.held || l.stage == 1 {
		return
	}
	l.held = false
	w.routes.release(int32(p))
	for _, g := range w.gateways {
		delete(g.last, int32(p))
	}
}

func (w *world) attach() {
	if len(w.gateways) == 4 {
		return
	}
	g := &gatewayModel{interests: []map[string]bool{{}}, last: make(map[int32]int64)}
	g.gateway = newGateway(newQueue(Options{}.withDefaults()))
	w.gateways = append(w.gateways, g)
	w.routes.attach(g.gateway)
	spans := w.take(g)
	require.Len(w, spans, len(w.routes.partitions))
	for _, s := range spans {
		require.Equal(w, w.routes.partitions[s.GetPartition()], s.GetThrough())
		require.Equal(w, s.GetAfter(), s.GetThrough())
		g.last[s.GetPartition()] = s.GetThrough()
	}
}

func (w *world) detach() {
	if len(w.gateways) == 0 {
		return
	}
	i := w.IntN(len(w.gateways))
	w.routes.detach(w.gateways[i].gateway)
	w.gateways = slices.Delete(w.gateways, i, i+1)
}

func (w *world) change() {
	if len(w.gateways) == 0 {
		return
	}
	g := w.gateways[w.IntN(len(w.gateways))]
	next := make(map[string]bool)
	for c := range g.interests[len(g.interests)-1] {
		next[c] = true
	}
	in := &millracev1.Interest{Number: uint64(len(g.interests))}
	for range w.IntN(4) {
		for _, c := range w.someChannels() {
			in.Remove = append(in.Remove, c)
			delete(next, c)
		}
	}
	for range w.IntN(4) {
		for _, c := range w.someChannels() {
			in.Add = append(in.Add, c)
			next[c] = true
		}
	}
	g.interests = append(g.interests, next)
	require.NoError(w, w.routes.change(g.gateway, in))
}

// settleAll finishes the record being handled of every partition, or one more where none is.
func (w *world) settleAll() {
	for p := range w.logs {
		l := &w.logs[p]
		if !l.held || l.at == len(l.records) {
			continue
		}
		for next := l.at + 1; l.at < next; {
			w.advance(p)
			w.drain()
		}
		require.Equal(w, l.records[l.at-1].seq, w.routes.partitions[int32(p)])
	}
}

// drain checks everything that is in the gateways' queues.
func (w *world) drain() {
	for _, g := range w.gateways {
		for _, s := range w.take(g) {
			w.check(g, s)
		}
	}
}

// take returns the spans in a gateway's queue and checks the acknowledgements.
func (w *world) take(g *gatewayModel) []*millracev1.Span {
	var spans []*millracev1.Span
	for f := g.gateway.queue.take(); f != nil; f = g.gateway.queue.take() {
		spans = append(spans, f.response.GetSpans()...)
		if ack := f.response.GetAck(); ack != nil {
			require.Equal(w, uint64(len(g.interests)-1), ack.GetNumber())
			require.Equal(w, w.routes.partitions, ack.GetHandled())
			for _, s := range spans {
				require.Less(w, s.GetInterest(), ack.GetNumber())
				w.check(g, s)
			}
			// Everything before the acknowledgement is covered; the spans that follow are made with the new interest.
			require.Equal(w, ack.GetHandled(), g.last)
			spans = nil
		}
	}
	return spans
}

func (w *world) check(g *gatewayModel, s *millracev1.Span) {
	require.Equal(w, g.last[s.GetPartition()], s.GetAfter(), "a hole in partition %d", s.GetPartition())
	g.last[s.GetPartition()] = s.GetThrough()
	var want, got []int64
	for _, r := range w.logs[s.GetPartition()].records {
		if r.seq > s.GetAfter() && r.seq <= s.GetThrough() && !r.skipped &&
			slices.ContainsFunc(r.channels, func(c string) bool { return g.interests[s.GetInterest()][c] }) {
			want = append(want, r.seq)
		}
	}
	for _, d := range s.GetDeliveries() {
		got = append(got, d.GetSeq())
	}
	require.Equal(w, want, got)
	w.delivered += len(got)
}

func TestGatewayThatLeavesIsForgotten(t *testing.T) {
	r := newRoutes()
	s := newGateway(newQueue(Options{}.withDefaults()))
	r.attach(s)
	require.NoError(t, r.change(s, &millracev1.Interest{Number: 1, Add: []string{"u:1", "g:2", "u:1"}}))
	require.Len(t, r.channels, 2)
	r.detach(s)
	// A change of interest that was on its way when the gateway left has no effect.
	require.NoError(t, r.change(s, &millracev1.Interest{Number: 2, Add: []string{"u:3"}}))
	r.attach(s)
	require.Empty(t, r.channels)
	require.Empty(t, r.gateways)
}

// A record whose partition is released while it is being handled is delivered all the same, in a span that covers it alone.
func TestRecordHandledDuringReleaseGetsASpanOfItsOwn(t *testing.T) {
	r := newRoutes()
	s := newGateway(newQueue(Options{}.withDefaults()))
	r.attach(s)
	require.NoError(t, r.change(s, &millracev1.Interest{Number: 1, Add: []string{"u:1"}}))
	s.queue.take()
	r.deliver(events.Position{Partition: 7, Seq: 40}, &millracev1.Delivery{Seq: 40, Channels: []string{"u:1"}})
	span := s.queue.take().response.GetSpans()[0]
	require.Equal(t, []int64{39, 40}, []int64{span.GetAfter(), span.GetThrough()})
	require.Empty(t, s.sent)
	require.Empty(t, r.partitions)
}

// If the record were delivered, the partition would go back, and the next span would cover records that other processes have
// read.
func TestRecordBeforeANewAssignmentIsNotDelivered(t *testing.T) {
	r := newRoutes()
	s := newGateway(newQueue(Options{}.withDefaults()))
	r.attach(s)
	require.NoError(t, r.change(s, &millracev1.Interest{Number: 1, Add: []string{"u:1"}}))
	r.assign(events.Position{Partition: 7, Seq: 50})
	s.queue.take()
	s.queue.take()
	r.deliver(events.Position{Partition: 7, Seq: 40}, &millracev1.Delivery{Seq: 40, Channels: []string{"u:1"}})
	require.Nil(t, s.queue.take())
	require.Equal(t, map[int32]int64{7: 50}, r.partitions)
}
