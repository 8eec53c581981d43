package connect

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	finalBit   = 0x80
	writeChunk = 32 << 10 // how much goes into one write; larger frames go alone
)

var errClosed = errors.New("connection closed")

// outbox holds the frames that wait for one client. They are written in order by a goroutine that exists only while
// something waits; what waits together goes into one write. It writes frames itself: gorilla would make a system call of
// each.
type outbox struct {
	conn      net.Conn
	maxFrames int
	maxBytes  int
	timeout   time.Duration
	spawn     func(func()) // runs the writer
	overflow  func()       // called, without the lock, when the bound is passed
	buffers   *sync.Pool   // of *[]byte

	mu      sync.Mutex
	queue   []outFrame
	frames  int // waiting or being written
	bytes   int
	writing bool
	closed  bool
	discard bool   // what is being written is not finished either
	final   []byte // the payload of the close frame
	waiting []chan struct{}
	done    chan struct{} // closed when nothing more will be written
}

type outFrame struct {
	op      byte
	payload []byte
}

// text queues a text frame. It never blocks: a client for which too much waits is given up.
func (o *outbox) text(payload []byte) { o.put(outFrame{websocket.TextMessage, payload}) }

func (o *outbox) put(f outFrame) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	if o.frames >= o.maxFrames || o.frames > 0 && o.bytes+len(f.payload) > o.maxBytes {
		o.mu.Unlock()
		o.overflow()
		return
	}
	o.queue = append(o.queue, f)
	o.frames++
	o.bytes += len(f.payload)
	o.start()
	o.mu.Unlock()
}

// waits is how many bytes wait to be written.
func (o *outbox) waits() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// room waits until at most half of what may wait does.
func (o *outbox) room(ctx context.Context) error {
	for {
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			return errClosed
		}
		if o.half() {
			o.mu.Unlock()
			return nil
		}
		wake := make(chan struct{})
		o.waiting = append(o.waiting, wake)
		o.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *outbox) half() bool { return o.frames <= o.maxFrames/2 && o.bytes <= o.maxBytes/2 }

// finish ends the connection with a close frame, behind what waits or, if discard is set, in its place. Only the first
// call counts; it reports whether it was.
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
	o.start()
	return true
}

// drop ends the connection without a word.
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
	if !o.writing {
		o.writing = true
		o.spawn(o.write)
	}
}

func (o *outbox) write() {
	buffer, _ := o.buffers.Get().(*[]byte)
	defer o.buffers.Put(buffer)
	for {
		o.mu.Lock()
		batch := o.queue
		o.queue = nil
		if len(batch) == 0 {
			final := o.final
			o.final = nil
			if o.closed && final == nil {
				o.end()
			}
			if final == nil {
				o.writing = false
				o.mu.Unlock()
				return
			}
			batch = []outFrame{{websocket.CloseMessage, final}}
		}
		o.mu.Unlock()
		o.writeAll(batch, buffer)
	}
}

// end tells everybody who waits that nothing more is written. The lock is held.
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

func (o *outbox) writeAll(batch []outFrame, buffer *[]byte) {
	for len(batch) > 0 {
		chunk, frames, bytes := (*buffer)[:0], 0, 0
		for frames < len(batch) && (frames == 0 || len(chunk)+len(batch[frames].payload) <= writeChunk) {
			chunk = appendFrame(chunk, batch[frames])
			bytes += len(batch[frames].payload)
			frames++
		}
		batch = batch[frames:]
		if cap(chunk) <= 2*writeChunk {
			*buffer = chunk
		}
		if !o.flush(chunk, frames, bytes) {
			return
		}
	}
}

// flush writes the chunk and reports whether to go on.
func (o *outbox) flush(chunk []byte, frames, bytes int) bool {
	_ = o.conn.SetWriteDeadline(time.Now().Add(o.timeout)) // a broken connection shows in the write
	_, err := o.conn.Write(chunk)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames -= frames
	o.bytes -= bytes
	if o.half() {
		o.wake()
	}
	if err != nil {
		o.closed, o.queue, o.final = true, nil, nil
		_ = o.conn.Close()
	}
	return err == nil && !o.discard
}

// appendFrame appends an unfragmented, unmasked frame (RFC 6455, 5.2).
func appendFrame(b []byte, f outFrame) []byte {
	b = append(b, finalBit|f.op)
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, f.payload...)
}
