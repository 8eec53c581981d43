package connect

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// logStub is a log whose reads return as many records as the test allows.
type logStub struct {
	deliveries []*millracev1.Delivery // seq = index + 1
	let        chan struct{}
}

func (l *logStub) ReadLog(ctx context.Context, p int32, after, through int64, visit func(*millracev1.Span)) error {
	for ; after < through; after++ {
		select {
		case <-l.let:
		case <-ctx.Done():
			return ctx.Err()
		}
		visit(&millracev1.Span{Partition: p, After: after, Through: after + 1, Deliveries: l.deliveries[after : after+1]})
	}
	return nil
}

// bench is a hub with one live session of user 1 and one stream, on partition 0.
type bench struct {
	*hub
	t      *testing.T
	log    *logStub
	sub    *subscriber
	stream *stream
}

func newBench(t *testing.T, channels ...string) *bench {
	ctx, cancel := context.WithCancel(t.Context())
	log := &logStub{let: make(chan struct{})}
	for i, channel := range channels {
		d := &millracev1.Delivery{Seq: int64(i + 1), Channels: []string{channel}, Push: []byte(channel)}
		if channel == "join" {
			d.Channels = []string{"g:7", "u:1"}
			d.Change = &millracev1.MembershipChange{GroupId: 7, Joined: []int64{1}}
		}
		log.deliveries = append(log.deliveries, d)
	}
	b := &bench{t: t, log: log, hub: newHub(ctx, Config{}.withDefaults(), log, newMetrics(nil, nil), slog.New(slog.DiscardHandler))}
	t.Cleanup(func() {
		cancel()
		b.wg.Wait()
	})
	out := &outbox{maxFrames: 100, maxBytes: 1 << 20, spawn: func(func()) {}, writers: &writers{}, done: make(chan struct{})}
	b.sub = &subscriber{session: &session{out: out}, user: 1}
	b.join(b.sub, nil)
	b.learnt(map[int32]int64{0: 0})
	b.wg.Wait() // until the session was told of it
	b.sub.buffering, b.sub.skipped = false, nil
	b.stream = b.attach("node")
	require.Nil(t, b.request().GetRemove())
	b.acknowledged(b.stream, &millracev1.InterestAck{Number: 1})
	return b
}

// request returns the interest that the stream sends next.
func (b *bench) request() *millracev1.Interest { return b.take(b.stream).GetInterest() }

// push passes a span with the records (after, through] to the hub, with deliveries on the channels.
func (b *bench) push(after, through int64, interest uint64, channels ...string) {
	span := &millracev1.Span{After: after, Through: through, Interest: interest}
	for _, d := range b.log.deliveries[after:through] {
		for _, c := range channels {
			if d.GetChannels()[0] == c || c == "u:1" && d.GetChange() != nil {
				span.Deliveries = append(span.Deliveries, d)
			}
		}
	}
	b.span(b.stream, span)
}

// received returns what the session got.
func (b *bench) received() (pushes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.sub.session.out.queue {
		pushes = append(pushes, string(f.payload))
	}
	return pushes
}

// letRead allows so many more records to be read.
func (b *bench) letRead(records int) {
	b.t.Helper()
	for range records {
		select {
		case b.log.let <- struct{}{}:
		case <-time.After(10 * time.Second):
			b.t.Fatal("nobody reads the log")
		}
	}
}

func (b *bench) wants(pushes ...string) {
	b.t.Helper()
	b.wg.Wait() // until no gap is being filled
	require.Equal(b.t, pushes, b.received())
}

func TestSpansAreDeliveredOnceAndInOrder(t *testing.T) {
	b := newBench(t, "u:1", "u:2", "u:1", "u:1")
	b.push(0, 1, 1, "u:1")
	b.push(0, 3, 1, "u:1")
	b.push(0, 1, 1, "u:1")
	b.push(3, 4, 1, "u:1")
	b.wants("u:1", "u:1", "u:1")
}

func TestAGapIsReadFromTheLogWhileLaterSpansWait(t *testing.T) {
	b := newBench(t, "u:1", "u:1", "u:2", "u:1")
	b.push(2, 3, 1, "u:1")
	b.push(3, 4, 1, "u:1")
	require.Empty(t, b.received())
	b.letRead(2)
	b.wants("u:1", "u:1", "u:1")
}

func TestAJoinedGroupIsReadFromTheLogUntilTheNodeKnowsOfIt(t *testing.T) {
	b := newBench(t, "join", "g:7", "g:7", "g:7")
	b.push(0, 1, 1, "u:1")
	require.Equal(t, []string{"join"}, b.received())
	require.Equal(t, []string{events.Group(7)}, b.request().GetAdd())
	b.push(1, 2, 1, "u:1") // it was made before the node knew of the group
	b.letRead(1)
	b.wants("join", "g:7")
	b.acknowledged(b.stream, &millracev1.InterestAck{Number: 2, Handled: map[int32]int64{0: 3}})
	b.letRead(1) // up to what the node had handled by then
	b.wants("join", "g:7", "g:7")
	b.push(3, 4, 2, "g:7")
	b.wants("join", "g:7", "g:7", "g:7")
}

func TestNothingIsPushedAboutAMessageFromBeforeTheStay(t *testing.T) {
	b := newBench(t, "u:2", "join", "g:7", "g:7", "g:7")
	b.push(1, 2, 1, "u:1")
	b.request()
	b.acknowledged(b.stream, &millracev1.InterestAck{Number: 2, Handled: map[int32]int64{0: 2}})
	b.log.deliveries[2].Push, b.log.deliveries[2].About = []byte("edit of what was said before"), 1
	b.log.deliveries[3].Push = []byte("said")
	b.log.deliveries[4].Push, b.log.deliveries[4].About = []byte("edit"), 4
	b.push(2, 5, 2, "g:7")
	b.letRead(1)
	b.wants("join", "said", "edit")
}

// While the joining is being read from the log, the hub holds a later span that was made before the node knew of the group.
// It must not trust that span, whether the span's stream lives or has broken meanwhile.
func TestAHeldSpanThatIsOlderThanAJoinedGroupIsNotTrusted(t *testing.T) {
	for name, meanwhile := range map[string]func(*bench){
		"acknowledged": func(b *bench) {
			b.request()
			b.acknowledged(b.stream, &millracev1.InterestAck{Number: 2})
		},
		"broken": func(b *bench) { b.detach(b.stream) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "u:2", "join", "u:2", "g:7", "u:1")
			b.push(3, 5, 1, "u:1")
			b.letRead(2)
			require.Eventually(t, func() bool { return len(b.received()) == 1 }, 30*time.Second, time.Millisecond)
			meanwhile(b)
			b.letRead(3)
			b.wants("join", "g:7", "u:1")
		})
	}
}
