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
)

// reader is a client that keeps its cursor by the protocol's rule, leaves and comes back, and checks every frame.
type reader struct {
	t    *testing.T
	w    *world
	user int64
	rng  *rand.Rand
	url  string

	// The world's lock guards these.
	cursor map[int32]int64
	seen   map[events.Position]bool // after the cursor
	trail  []string                 // what has come, with the cursor that it came at
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.session(ctx); err != nil && ctx.Err() == nil {
			assert.NoError(r.t, err)
			return
		}
	}
}

// session connects, reads for a while and leaves.
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
		r.trail = append(r.trail, "connects"+cursor)
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
		r.trail = append(r.trail, fmt.Sprintf("at %v: %s", r.cursor, data))
		if err = r.judge(data); err != nil && !errors.Is(err, errTryAgain) {
			r.explain()
		}
		r.w.mu.Unlock()
		switch {
		case errors.Is(err, errTryAgain):
			return nil
		case err != nil:
			return fmt.Errorf("user %d: %w", r.user, err)
		}
	}
}

// explain logs the last of what has come, and what has not come of what should have.
func (r *reader) explain() {
	for _, line := range r.trail[max(0, len(r.trail)-40):] {
		r.t.Logf("user %d %s", r.user, line)
	}
	for p := range int32(partitions) {
		for _, d := range r.w.visible(r.user, p, r.cursor[p], int64(len(r.w.logs[p]))) {
			r.t.Logf("user %d sees %d:%d, stored through %d, in %v: %s", r.user, p, d.GetSeq(), r.w.kept[p], d.GetChannels(), d.GetPush())
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

// reach checks that the client has seen everything up to the position that it must see, and nothing else.
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

// ahead finds the record of a push without a position.
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

// sawAlike reports whether the client has seen another push that equals the one at the position and had no position: for
// example two joinings of one user look the same.
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

// alike compares two pushes without their positions.
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
