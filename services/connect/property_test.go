package connect_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// hardship is what happens to the gateway in a run.
type hardship struct {
	lose, double, delay int // in percent of the spans
	storeOutages        bool
	readLimit           int64
	mute                bool // push nodes that accept no interest for a while
	move                bool // push nodes whose address comes and goes
}

// Whatever happens to spans, streams, nodes and partitions, a client that keeps its cursor by the protocol's rule sees
// everything it may see, in the order of each partition, nothing twice and nothing else.
func TestEveryClientSeesExactlyWhatItMust(t *testing.T) {
	for name, h := range map[string]hardship{
		"calm":               {readLimit: 1000},
		"spans lost":         {readLimit: 1000, lose: 20},
		"spans in disorder":  {readLimit: 1000, double: 20, delay: 20},
		"gaps too long":      {readLimit: 3, lose: 20, delay: 10},
		"late interest":      {readLimit: 1000, mute: true},
		"nodes come and go":  {readLimit: 1000, move: true},
		"store outages":      {readLimit: 1000, storeOutages: true},
		"everything at once": {readLimit: 5, lose: 10, double: 10, delay: 10, storeOutages: true, mute: true, move: true},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				endure(t, h, rand.New(rand.NewPCG(seed, 1)))
			})
		}
	}
}

const (
	partitions = 3
	users      = 5
	groups     = 3
	steps      = 300
)

// trial is one run.
type trial struct {
	*world
	rng      *rand.Rand
	h        hardship
	pushes   [2]*pushNode
	names    fakeResolver
	listed   [2]bool
	luck     *rand.Rand                         // under the world's lock
	heldBack map[*attachment][]*millracev1.Span // to come later on the same stream
	member   map[int64]map[int64]bool
	owner    map[int64]int64
	count    int
}

func endure(t *testing.T, h hardship, rng *rand.Rand) {
	w := newWorld(t, partitions)
	w.lazy, w.readLimit = true, h.readLimit
	tr := &trial{world: w, rng: rng, luck: rand.New(rand.NewPCG(rng.Uint64(), 3)), h: h, member: map[int64]map[int64]bool{}, owner: map[int64]int64{}, heldBack: map[*attachment][]*millracev1.Span{}}
	tr.pushes = [2]*pushNode{w.newPushNode(0, 1), w.newPushNode(2)}
	messages := static([]cluster.Conn{serveMessages(t, &messageNode{w: w}), serveMessages(t, &messageNode{w: w})})
	for _, n := range tr.pushes {
		n.fault = tr.fault
	}
	tr.list(true, true)
	cfg := connect.Config{AckWait: 30 * time.Millisecond, Retry: 5 * time.Millisecond, KeepInterest: 100 * time.Millisecond}
	r := startListed(t, cfg, messages, behindOneName(t, &tr.names, tr.pushes[:]...))

	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	var readers []*reader
	for user := range int64(users) {
		for range 2 {
			reader := &reader{t: t, w: w, user: user + 1, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), url: r.url}
			readers = append(readers, reader)
			reading.Go(func() { reader.run(ctx) })
		}
	}
	for range steps {
		tr.step()
		if rng.IntN(4) == 0 {
			<-time.After(time.Duration(rng.IntN(3)) * time.Millisecond) // gives the others a turn; it decides nothing
		}
	}
	tr.list(true, true)
	w.set(func(w *world) {
		w.store.down.Store(false)
		for _, n := range tr.pushes {
			n.fault = nil
			n.unmute()
		}
		for p := range int32(partitions) { // as every second in quiet times: tells how far the partition is
			tr.pushes[0].take(p, int64(len(w.logs[p])))
		}
	})
	assert.Eventually(t, func() bool {
		return !slices.ContainsFunc(readers, func(r *reader) bool { return !r.upToDate() })
	}, 3*patience, 5*time.Millisecond)
	stop()
	reading.Wait()
	for _, r := range readers {
		if !r.upToDate() {
			w.set(func(*world) { t.Errorf("user %d: cursor %v, ends %v", r.user, r.cursor, w.ends()) })
		}
	}
}

// step does something at random.
func (tr *trial) step() {
	rng := tr.rng
	user := rng.Int64N(users) + 1
	group := 101 + rng.Int64N(groups)
	tr.count++
	content := fmt.Sprint("message ", tr.count)
	switch n := rng.IntN(100); {
	case n < 45:
		tr.say(user, rng.Int64N(users)+1, content)
	case n < 65 && tr.member[group][user]:
		tr.tell(user, group, content)
	case n < 80:
		tr.change(user, group)
	case n < 85 && !tr.store.down.Load():
		p := rng.Int32N(partitions)
		tr.set(func(w *world) { w.keep(p, w.kept[p]+rng.Int64N(int64(len(w.logs[p]))-w.kept[p]+1)) })
	case n < 90:
		tr.set(func(w *world) {
			for _, node := range tr.pushes {
				node.beat()
			}
		})
	case n < 94:
		p := rng.Int32N(partitions)
		tr.set(func(w *world) { // the partition moves to another node and may be handled again from an earlier position
			tr.pushes[rng.IntN(2)].take(p, max(0, int64(len(w.logs[p]))-rng.Int64N(4)))
		})
	case n < 96:
		tr.set(func(*world) { tr.pushes[rng.IntN(2)].breakStreams() })
	case n < 97 && tr.h.move:
		listed := tr.listed
		i := rng.IntN(2)
		listed[i] = !listed[i]
		tr.list(listed[0], listed[1])
		if rng.IntN(2) == 0 { // otherwise the stream outlives the address
			tr.set(func(*world) { tr.pushes[i].breakStreams() })
		}
	case n < 98 && tr.h.mute:
		node := tr.pushes[rng.IntN(2)]
		tr.set(func(*world) {
			if node.mute {
				node.unmute()
			} else {
				node.mute = true
			}
		})
	case tr.h.storeOutages:
		down := !tr.store.down.Load()
		tr.store.down.Store(down)
		if down && rng.IntN(2) == 0 {
			tr.set(func(w *world) { w.restart() }) // then nobody's groups are known
		}
	}
}

// list sets which push nodes have an address.
func (tr *trial) list(listed ...bool) {
	var addresses []string
	for i := range tr.pushes {
		if tr.listed[i] = listed[i]; listed[i] {
			addresses = append(addresses, pushAddress(i))
		}
	}
	tr.names.set(addresses...)
}

// change creates the group, or makes the user join or leave it.
func (tr *trial) change(user, group int64) {
	members := tr.member[group]
	e := tr.membership(events.MemberJoined, group, user)
	switch {
	case members == nil:
		tr.member[group], tr.owner[group] = map[int64]bool{user: true}, user
		e = tr.membership(events.GroupCreated, group, user, user)
	case user == tr.owner[group]:
		return // nobody would be left in the group who may add others
	case members[user]:
		delete(members, user)
		e.Type = events.MemberLeft
	default:
		members[user] = true
		e.By = tr.owner[group]
	}
	tr.append(e)
}

// fault is called with the world's lock held.
func (tr *trial) fault(a *attachment, span *millracev1.Span) []*millracev1.Span {
	n := tr.luck.IntN(100)
	spans := []*millracev1.Span{span}
	switch {
	case n < tr.h.lose:
		return nil
	case n < tr.h.lose+tr.h.double:
		spans = append(spans, span)
	case n < tr.h.lose+tr.h.double+tr.h.delay:
		tr.heldBack[a] = append(tr.heldBack[a], span)
		return nil
	}
	if held := tr.heldBack[a]; len(held) > 0 && tr.luck.IntN(3) == 0 {
		spans = append(spans, held[0])
		tr.heldBack[a] = held[1:]
	}
	return spans
}
