package connect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// hardship is what a run of the world does to its gateway.
type hardship struct {
	lose, double, delay int // in percent of the spans
	storeOutages        bool
	readLimit           int64
	mute                bool // push nodes that take up no interest for a while
	move                bool // push nodes whose address comes and goes
}

// Whatever happens to spans, streams, nodes and partitions: a client that keeps its cursor by the rule sees everything it
// may see, in the order of each partition, nothing twice and nothing else.
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
	heldBack map[*attachment][]*millracev1.Span // held back, to come on the same stream
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
			<-time.After(time.Duration(rng.IntN(3)) * time.Millisecond) // lets the others have their turn: paces, decides nothing
		}
	}
	tr.list(true, true)
	w.set(func(w *world) {
		w.store.down.Store(false)
		for _, n := range tr.pushes {
			n.fault = nil
			n.unmute()
		}
		for p := range int32(partitions) { // as every second in quiet times: tells where the partition is
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
		tr.set(func(w *world) { // moves, and may be handled again from somewhere before
			tr.pushes[rng.IntN(2)].take(p, max(0, int64(len(w.logs[p]))-rng.Int64N(4)))
		})
	case n < 96:
		tr.set(func(*world) { tr.pushes[rng.IntN(2)].breakStreams() })
	case n < 97 && tr.h.move:
		listed := tr.listed
		i := rng.IntN(2)
		listed[i] = !listed[i]
		tr.list(listed[0], listed[1])
		if rng.IntN(2) == 0 { // else its stream outlives its address
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
			tr.set(func(w *world) { w.restart() }) // and nobody's groups are known
		}
	}
}

// list tells which push nodes have an address.
func (tr *trial) list(listed ...bool) {
	var addresses []string
	for i := range tr.pushes {
		if tr.listed[i] = listed[i]; listed[i] {
			addresses = append(addresses, pushAddress(i))
		}
	}
	tr.names.set(addresses...)
}

// change creates the group, or has the user join or leave.
func (tr *trial) change(user, group int64) {
	members := tr.member[group]
	e := tr.membership(events.MemberJoined, group, user)
	switch {
	case members == nil:
		tr.member[group], tr.owner[group] = map[int64]bool{user: true}, user
		e = tr.membership(events.GroupCreated, group, user, user)
	case user == tr.owner[group]:
		return // its group would have nobody who may add others
	case members[user]:
		delete(members, user)
		e.Type = events.MemberLeft
	default:
		members[user] = true
		e.By = tr.owner[group]
	}
	tr.append(e)
}

// fault is called under the world's lock.
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

// reader is a client that keeps its cursor by the rule, goes and comes back, and judges every frame.
type reader struct {
	t    *testing.T
	w    *world
	user int64
	rng  *rand.Rand
	url  string

	// Under the world's lock.
	cursor map[int32]int64
	seen   map[events.Position]bool // beyond the cursor
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.session(ctx); err != nil && ctx.Err() == nil {
			assert.NoError(r.t, err)
			return
		}
	}
}

// session connects, reads for a while and goes.
func (r *reader) session(ctx context.Context) error {
	conn, response, err := websocket.DefaultDialer.DialContext(ctx, r.url, nil)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	var cursor string
	r.w.set(func(*world) {
		if r.cursor != nil {
			encoded, _ := json.Marshal(r.cursor)
			cursor = `,"cursor":` + string(encoded)
		}
		r.seen = map[events.Position]bool{}
	})
	connect := fmt.Sprintf(`{"id":1,"connect":{"token":"%d"%s}}`, r.user, cursor)
	if err := conn.WriteMessage(websocket.TextMessage, []byte(connect)); err != nil {
		return err
	}
	leave := make(chan struct{})
	var leaving sync.WaitGroup
	leaving.Go(func() {
		var long <-chan time.Time
		if r.rng.IntN(3) > 0 {
			long = time.After(time.Duration(r.rng.IntN(80)) * time.Millisecond)
		}
		select {
		case <-leave:
		case <-long:
		case <-ctx.Done():
		}
		_ = conn.Close()
	})
	defer leaving.Wait()
	defer close(leave)
	for {
		_, data, err := conn.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed) && closed.Code != closeSlow && closed.Code != websocket.CloseAbnormalClosure:
			return err
		case err != nil:
			return nil // it left, or was told to resume
		}
		r.w.mu.Lock()
		err = r.judge(data)
		r.w.mu.Unlock()
		switch {
		case errors.Is(err, errTryAgain):
			return nil
		case err != nil:
			return fmt.Errorf("user %d: %w: %s", r.user, err, data)
		}
	}
}

var errTryAgain = errors.New("try again")

const closeSlow = 4008

func (r *reader) judge(data []byte) error {
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	switch {
	case f.Connected != nil && !f.Connected.Recovered:
		return errors.New("not recovered")
	case f.Connected != nil:
		r.cursor = f.Connected.Cursor
		return nil
	case f.Error != nil && f.Error.Code == "unavailable":
		return errTryAgain // the connect took too long, as it may on a slow machine; the client comes back
	case f.Push == nil:
		return errors.New("unexpected")
	case f.Push.Type == "complete":
		return r.complete(f.Push.Cursor)
	case f.Push.Pos == "":
		return r.ahead(data)
	}
	pos, err := events.ParsePosition(f.Push.Pos)
	if err != nil {
		return err
	}
	if pos.Seq <= r.cursor[pos.Partition] || r.seen[pos] && !r.sawAlike(pos) {
		return fmt.Errorf("again or out of order, cursor %v", r.cursor)
	}
	r.seen[pos] = true
	return r.reach(pos)
}

// reach holds everything up to the position to have been seen, and nothing to have been seen that must not.
func (r *reader) reach(pos events.Position) error {
	visible := r.w.visible(r.user, pos.Partition, r.cursor[pos.Partition], pos.Seq)
	for _, d := range visible {
		if !r.seen[events.Position{Partition: pos.Partition, Seq: d.GetSeq()}] {
			return fmt.Errorf("missed %d:%d, cursor %v", pos.Partition, d.GetSeq(), r.cursor)
		}
	}
	for p := range r.seen {
		sees := func(d *millracev1.Delivery) bool { return d.GetSeq() == p.Seq }
		if p.Partition == pos.Partition && p.Seq > r.cursor[p.Partition] && p.Seq <= pos.Seq && !slices.ContainsFunc(visible, sees) {
			return fmt.Errorf("saw %s, which is not for it", p)
		}
	}
	r.cursor[pos.Partition] = pos.Seq
	return nil
}

func (r *reader) complete(cursor map[int32]int64) error {
	for p, seq := range cursor {
		if seq < r.cursor[p] {
			return fmt.Errorf("cursor goes back from %v", r.cursor)
		}
		if err := r.reach(events.Position{Partition: p, Seq: seq}); err != nil {
			return err
		}
	}
	return nil
}

// ahead finds the record of a push that came without its position.
func (r *reader) ahead(data []byte) error {
	for p := range int32(partitions) {
		for _, d := range r.w.visible(r.user, p, r.cursor[p], int64(len(r.w.logs[p]))) {
			pos := events.Position{Partition: p, Seq: d.GetSeq()}
			if !r.seen[pos] && alike(d.GetPush(), data) {
				r.seen[pos] = true
				return nil
			}
		}
	}
	return errors.New("not for it, or again")
}

// sawAlike reports whether what is taken to have been seen was another push like the one at the position, which came without
// its own: nothing tells two joinings of a user apart.
func (r *reader) sawAlike(pos events.Position) bool {
	log := r.w.logs[pos.Partition]
	for _, d := range r.w.visible(r.user, pos.Partition, pos.Seq, int64(len(log))) {
		other := events.Position{Partition: pos.Partition, Seq: d.GetSeq()}
		if !r.seen[other] && alike(d.GetPush(), log[pos.Seq-1].GetPush()) {
			r.seen[other] = true
			return true
		}
	}
	return false
}

// alike compares two pushes but for the position.
func alike(a, b []byte) bool {
	var x, y struct{ Push map[string]any }
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	delete(x.Push, "pos")
	delete(y.Push, "pos")
	return assert.ObjectsAreEqual(x, y)
}

// upToDate reports whether the client has seen everything by now.
func (r *reader) upToDate() bool {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.cursor == nil {
		return false
	}
	for p, end := range r.w.ends() {
		if len(r.w.visible(r.user, p, r.cursor[p], end)) > 0 {
			return false
		}
	}
	return true
}
