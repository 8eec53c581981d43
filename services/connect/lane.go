package connect

import (
	"errors"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// The bounds of what a lane sends at once.
const (
	batchChanges = 64
	batchBytes   = 256 << 10
)

// lanes keep the order of a connection's changes: sends, edits, recalls, reads and changes of groups. Each conversation has a
// lane of its own, which exists only while it has something to do. One batch of its changes is with a message node; what
// arrives meanwhile becomes the next batch.
type lanes struct {
	session *session
	mu      sync.Mutex
	open    map[string]*lane
	refused uint64 // numbers the refusals with the code unavailable
	asked   uint64 // the refusal behind which a ping was sent whose pong has not come yet; 0: none
}

type lane struct {
	conversation string
	waiting      []*outgoing
	inFlight     bool

	// After a change was refused as unavailable, the lane accepts only a repeat of that change. Those that came after it may
	// be on the wire already, and the client repeats all of them in order. The lane accepts others again after a while,
	// because the client may have given the change up, but not before the client has seen the refusal. The pong to a ping
	// that was sent after the refusal shows that it has.
	failed  *outgoing
	refusal uint64 // the number of that refusal; 0: the client has seen it
	held    time.Time
}

// unseen stands for a refusal that was not written to the client yet.
const unseen = math.MaxUint64

func (l *lanes) add(conversation string, m *outgoing) {
	ln, next, taken := l.take(conversation, m)
	if !taken {
		l.answer(m, nil, unavailable())
		return
	}
	l.dispatch(ln, next)
}

// take puts the change into its lane, unless the lane holds it back, and returns the batch to dispatch now, if any.
func (l *lanes) take(conversation string, m *outgoing) (ln *lane, next []*outgoing, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln = l.open[conversation]
	if ln == nil {
		if l.open == nil {
			l.open = map[string]*lane{}
		}
		ln = &lane{conversation: conversation}
		l.open[conversation] = ln
	}
	if ln.holdsBack(m) {
		return ln, nil, false
	}
	ln.failed = nil
	ln.waiting = append(ln.waiting, m)
	return ln, ln.next(), true
}

func (ln *lane) holdsBack(m *outgoing) bool {
	return ln.failed != nil && !m.repeats(ln.failed) && (ln.refusal != 0 || time.Now().Before(ln.held))
}

// next removes and returns the lane's next batch, or nil if there is none or one is in flight. A change that is answered only
// once it is stored is a batch by itself, so that no other answer waits for it.
func (ln *lane) next() []*outgoing {
	if ln.inFlight || len(ln.waiting) == 0 {
		return nil
	}
	n, size := 0, 0
	for n < len(ln.waiting) && n < batchChanges {
		m := ln.waiting[n]
		if size += m.size; n > 0 && (size > batchBytes || m.stored) {
			break
		}
		if n++; m.stored {
			break
		}
	}
	batch := ln.waiting[:n:n]
	if ln.waiting = ln.waiting[n:]; len(ln.waiting) == 0 {
		ln.waiting = nil
	}
	ln.inFlight = true
	return batch
}

// dispatch passes the batch to a message node.
func (l *lanes) dispatch(ln *lane, changes []*outgoing) {
	if len(changes) == 0 {
		return
	}
	b := &cluster.SendBatch{
		Changes:  make([]*millracev1.Change, len(changes)),
		Deadline: changes[0].at.Add(l.session.gw.cfg.CallTimeout), Stored: changes[0].stored,
	}
	for i, m := range changes {
		b.Changes[i] = &m.change
		b.Bytes += m.size
		if m.span != nil {
			if b.Spans == nil {
				b.Spans = make([]trace.Span, len(changes))
			}
			b.Spans[i] = m.span
		}
	}
	b.Done = func(results []*millracev1.SendResult, err error) {
		l.session.contain(func() { // the uplink, which calls it, also has the batches of other sessions
			if errors.Is(err, cluster.ErrUnsent) && time.Now().Before(b.Deadline) {
				l.dispatch(ln, changes)
				return
			}
			l.settle(ln, changes, results)
		})
	}
	l.session.gw.nodes.Send(b)
}

// settle answers the changes of a batch. Without results nobody knows their outcome.
func (l *lanes) settle(ln *lane, changes []*outgoing, results []*millracev1.SendResult) {
	failed, behind, next := l.conclude(ln, changes, results)
	for i, m := range changes {
		code, result := outcome(results, i)
		if code == codes.OK {
			l.answer(m, result, nil)
		} else {
			l.answer(m, nil, refusalFor(code, result.GetError()))
		}
	}
	for _, m := range behind {
		l.answer(m, nil, unavailable())
	}
	if failed != nil {
		l.ask(ln, failed)
	}
	l.dispatch(ln, next)
}

// conclude notes the results of a batch in the lane. It returns the change that failed, if one did, with those that waited
// behind it, or the next batch.
func (l *lanes) conclude(ln *lane, changes []*outgoing, results []*millracev1.SendResult) (failed *outgoing, behind, next []*outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln.inFlight = false
	if failed = firstFailed(changes, results); failed != nil {
		behind, ln.waiting = ln.waiting, nil
		ln.failed, ln.refusal = failed, unseen
		return failed, behind, nil
	}
	if next = ln.next(); next == nil {
		delete(l.open, ln.conversation)
	}
	return nil, nil, next
}

// ask sends a ping to find out when the client has seen the refusal that was just written. Only one ping is on its way at a
// time.
func (l *lanes) ask(ln *lane, failed *outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.failed != failed {
		return // it was repeated already
	}
	l.refused++
	ln.refusal = l.refused
	if l.asked == 0 {
		l.ping()
	}
}

// ping sends a ping behind all refusals so far. The lock is held.
func (l *lanes) ping() {
	l.asked = l.refused
	l.session.out.put(outFrame{op: websocket.PingMessage, payload: strconv.AppendUint(nil, l.asked, 10)})
}

// pong reports whether this is the awaited pong. From then on the lanes hold changes back only for a while.
func (l *lanes) pong(data string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == 0 || data != strconv.FormatUint(l.asked, 10) {
		return false
	}
	hold := l.session.gw.cfg.OrderHold
	for _, ln := range l.open {
		if ln.refusal != 0 && ln.refusal <= l.asked {
			ln.refusal, ln.held = 0, time.Now().Add(hold)
			time.AfterFunc(hold, func() { l.session.contain(func() { l.release(ln) }) })
		}
	}
	if l.asked < l.refused {
		l.ping()
	} else {
		l.asked = 0
	}
	return true
}

// release removes a lane that was kept only to hold later changes back.
func (l *lanes) release(ln *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[ln.conversation] == ln && !ln.inFlight && ln.refusal == 0 && !time.Now().Before(ln.held) {
		delete(l.open, ln.conversation)
	}
}

// firstFailed returns the first change of a batch that has to be repeated in order, with everything after it, or nil. A change
// that was refused for its own fault affects no other, and neither does a read, whose place among the others does not matter.
func firstFailed(changes []*outgoing, results []*millracev1.SendResult) *outgoing {
	for i, m := range changes {
		if code, _ := outcome(results, i); code != codes.OK && !ownFault(code) && m.change.GetRead() == nil {
			return m
		}
	}
	return nil
}

// outcome returns what the node has said of a change of a batch. If it has said nothing, the change may be tried again.
func outcome(results []*millracev1.SendResult, i int) (codes.Code, *millracev1.SendResult) {
	if i >= len(results) {
		return codes.Unavailable, nil
	}
	return codes.Code(results[i].GetCode()), results[i]
}
