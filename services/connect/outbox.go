package connect

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

var errClosed = errors.New("connection closed")

// outbox holds the frames that wait for one client. One writer at a time, and none while nothing waits, writes them in order,
// and writes what waits at the same time with one call. It makes the frames itself, because gorilla would make a system call
// for each. The writer is one of those that all sessions share until the socket takes no more, and then one of the session's
// own, which waits for the client. Where the socket is out of reach, as with TLS, it is always the latter.
//
// What waits counts as one of two loads. Pushes come whether or not the client keeps up, so too many of them end the
// connection. Answers come because the client has asked, so too many of them delay its next requests (see room) and end
// nothing.
type outbox struct {
	conn         net.Conn
	socket       syscall.RawConn // nil if what is written to the connection is not what goes to a socket
	writers      *writers
	maxFrames    int // of each load
	maxBytes     int
	timeout      time.Duration // of one write that waits, which may end up to an eighth of it earlier
	closeTimeout time.Duration // for the client to answer the close frame
	spawn        func(func())  // runs a writer of the session's own
	overflow     func()        // called, without the lock, when too many pushes wait
	progress     func()        // called, with the lock held, when something was written that somebody has waited for

	mu      sync.Mutex
	queue   []outFrame
	pushes  load
	answers load
	writing bool
	closed  bool
	discard bool   // also break off what is being written
	final   []byte // the payload of the close frame
	waiting []chan struct{}
	expires time.Time     // when a write that waits ends
	done    chan struct{} // closed when nothing more will be written
	behind  *outbox       // the next one that the writers write; their lock guards it
}

// socketOf returns the socket of a connection whose bytes go to it as they are, or nil.
func socketOf(conn net.Conn) syscall.RawConn {
	if c, ok := conn.(syscall.Conn); ok {
		if socket, err := c.SyscallConn(); err == nil {
			return socket
		}
	}
	return nil
}

type outFrame struct {
	payload []byte
	span    *deliverSpan // ends when the frame was written; nil for most frames
	op      byte
	answer  bool // it answers a request
}

// load is what waits or is being written.
type load struct{ frames, bytes int }

func (l *load) add(payload []byte) {
	l.frames++
	l.bytes += len(payload)
}

// text queues a push. It never blocks: if too many pushes wait, the connection is closed.
func (o *outbox) text(payload []byte) { o.put(outFrame{op: websocket.TextMessage, payload: payload}) }

// put queues a frame that is no answer.
func (o *outbox) put(f outFrame) {
	if o.hold(f) {
		o.begin()
	}
}

// hold is like put, but leaves it to the caller to begin writing, which has to be done if hold reports true. So what is queued
// meanwhile is written with the frame. A frame after the close frame is dropped.
func (o *outbox) hold(f outFrame) (begin bool) {
	queued, begin := o.take(f)
	if !queued {
		o.overflow()
	}
	return begin
}

// take queues the frame, unless too many pushes wait, and reports whether writing has to begin.
func (o *outbox) take(f outFrame) (queued, begin bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return true, false
	case o.pushes.frames >= o.maxFrames || o.pushes.frames > 0 && o.pushes.bytes+len(f.payload) > o.maxBytes:
		return false, false
	}
	begin = len(o.queue) == 0 && !o.writing
	o.add(f)
	return true, begin
}

// begin makes sure that what is queued is being written.
func (o *outbox) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) > 0 {
		o.start()
	}
}

// answer queues an answer. It never blocks; callers that can wait call answerInTurn, or wait for room before they handle a
// request.
func (o *outbox) answer(payload []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.add(outFrame{op: websocket.TextMessage, payload: payload, answer: true})
		o.start()
	}
}

// answerInTurn queues an answer once there is room for it.
func (o *outbox) answerInTurn(ctx context.Context, payload []byte) {
	for o.room(ctx, &o.answers) == nil {
		if o.answerNow(payload) {
			return
		}
	}
}

// answerNow queues the answer and reports true, unless there is no room for it.
func (o *outbox) answerNow(payload []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.half(&o.answers) {
		return false
	}
	if !o.closed {
		o.add(outFrame{op: websocket.TextMessage, payload: payload, answer: true})
		o.start()
	}
	return true
}

// add queues the frame. The lock is held.
func (o *outbox) add(f outFrame) {
	o.queue = append(o.queue, f)
	o.loadOf(f).add(f.payload)
}

func (o *outbox) loadOf(f outFrame) *load {
	if f.answer {
		return &o.answers
	}
	return &o.pushes
}

// waits returns how many bytes wait to be written.
func (o *outbox) waits() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pushes.bytes + o.answers.bytes
}

// room waits until the load is at most half of its bounds.
func (o *outbox) room(ctx context.Context, of *load) error {
	for {
		wake, err := o.roomOrWake(of)
		if wake == nil {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// roomOrWake returns a channel that is closed when the caller should look again, or nil if there is room or never will be.
func (o *outbox) roomOrWake(of *load) (wake chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, errClosed
	case o.half(of):
		return nil, nil
	}
	wake = make(chan struct{})
	o.waiting = append(o.waiting, wake)
	return wake, nil
}

func (o *outbox) half(of *load) bool { return of.frames <= o.maxFrames/2 && of.bytes <= o.maxBytes/2 }

// finish ends the connection with a close frame, after what waits or, if discard is set, instead of it. A write that is under
// way gets the whole timeout again, so that a client that stalled and reads again sees the reason. Only the first call has an
// effect, and reports true.
func (o *outbox) finish(code int, reason string, discard bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.closed = true
	o.final = websocket.FormatCloseMessage(code, reason)
	if discard {
		o.queue, o.discard = nil, true
	}
	o.expire(0)
	_ = o.conn.SetReadDeadline(time.Now().Add(o.timeout + o.closeTimeout))
	o.start()
	return true
}

// drop ends the connection without a close frame.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	o.queue = nil
	o.start()
}

// start makes sure that a writer runs. The lock is held.
func (o *outbox) start() {
	switch {
	case o.writing:
		return
	case o.socket == nil:
		o.spawn(func() { o.write(nil, nil, 0) })
	default:
		o.writers.add(o)
	}
	o.writing = true
}

// writeNow writes what waits as long as the socket takes it, and leaves the rest to a writer that waits.
func (o *outbox) writeNow(p *pen) {
	for batch := o.next(); batch != nil; batch = o.next() {
		for len(batch) > 0 {
			chunk, n := p.chunk(batch)
			rest, err := p.try(o.socket, chunk)
			if err == nil && len(rest) > 0 {
				o.writeLater(bytes.Clone(rest), batch, n)
				return
			}
			if !o.written(batch[:n], err) {
				break
			}
			batch = batch[n:]
		}
	}
}

// writeLater has a writer of the session's own call write. In writeNow the closure would move the variables of every batch to the heap.
func (o *outbox) writeLater(rest []byte, batch []outFrame, n int) {
	o.spawn(func() { o.write(rest, batch, n) })
}

// write waits for the client until everything is written: first the rest of a chunk, which has n frames of a batch, and then
// what else waits.
func (o *outbox) write(rest []byte, batch []outFrame, n int) {
	p := o.writers.takePen()
	defer o.writers.pens.Put(p)
	if n == 0 || o.flush(rest, batch[:n]) {
		o.writeAll(batch[n:], p)
	}
	for batch = o.next(); batch != nil; batch = o.next() {
		o.writeAll(batch, p)
	}
}

// next removes and returns what waits, and last the close frame. If there is nothing to write the writer ends.
func (o *outbox) next() []outFrame {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.queue
	o.queue = nil
	if len(batch) > 0 {
		return batch
	}
	if final := o.final; final != nil {
		o.final = nil
		return []outFrame{{op: websocket.CloseMessage, payload: final}}
	}
	if o.closed {
		o.end()
	}
	o.writing = false
	return nil
}

// end tells everybody who waits that nothing more will be written. The lock is held.
func (o *outbox) end() {
	close(o.done)
	o.wake()
}

func (o *outbox) wake() {
	for _, w := range o.waiting {
		close(w)
	}
	o.waiting = nil
}

func (o *outbox) writeAll(batch []outFrame, p *pen) {
	for len(batch) > 0 {
		chunk, n := p.chunk(batch)
		if !o.flush(chunk, batch[:n]) {
			return
		}
		batch = batch[n:]
	}
}

// flush writes the chunk, which has the frames, and reports whether to go on.
func (o *outbox) flush(chunk []byte, frames []outFrame) bool {
	o.mu.Lock()
	o.expire(o.timeout * 7 / 8)
	o.mu.Unlock()
	_, err := o.conn.Write(chunk)
	return o.written(frames, err)
}

// written notes that the frames were written, or why not, and reports whether to go on.
func (o *outbox) written(frames []outFrame, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range frames {
		l := o.loadOf(f)
		l.frames--
		l.bytes -= len(f.payload)
		if f.span != nil {
			f.span.end(err)
		}
	}
	if err == nil && len(o.waiting) > 0 {
		o.progress()
	}
	if o.half(&o.pushes) || o.half(&o.answers) {
		o.wake()
	}
	if err == nil && frames[0].op == websocket.CloseMessage {
		_ = o.conn.SetReadDeadline(time.Now().Add(o.closeTimeout)) // the reader goes on until the client has answered the close frame
	}
	if err != nil {
		o.closed, o.queue, o.final = true, nil, nil
		_ = o.conn.Close()
	}
	return err == nil && !o.discard
}

// expire gives the next write that waits, or the one that is under way, the whole timeout, unless it has at least so much left.
// If the connection is broken, the write fails. The lock is held.
func (o *outbox) expire(enough time.Duration) {
	if now := time.Now(); enough == 0 || o.expires.Sub(now) < enough {
		o.expires = now.Add(o.timeout)
		_ = o.conn.SetWriteDeadline(o.expires)
	}
}

// abandon ends the connection after the writer has failed, with a close frame if that can still be written.
func (o *outbox) abandon(code int, reason string) {
	o.drop()
	_ = o.conn.SetWriteDeadline(time.Now().Add(o.timeout))
	_, _ = o.conn.Write(appendFrame(nil, outFrame{op: websocket.CloseMessage, payload: websocket.FormatCloseMessage(code, reason)}))
	_ = o.conn.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end()
}
