package connect

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/gorilla/websocket"

	"millrace/infra/panics"
)

// writeChunk is how much goes into one write. A larger frame goes alone.
const writeChunk = 32 << 10

// writers write what waits in the outboxes of all sessions. They are goroutines that exist only while something waits, and not
// more than there are processors. They never wait for a client: what its socket does not take at once is left to a writer of
// its session.
type writers struct {
	panics *panics.Panics
	wg     sync.WaitGroup
	pens   sync.Pool

	mu          sync.Mutex
	first, last *outbox // those that have something to write, linked by behind
	running     int
}

// add has the outbox written. It must not be there already.
func (w *writers) add(o *outbox) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.first = o
	} else {
		w.last.behind = o
	}
	w.last = o
	if w.running < runtime.GOMAXPROCS(0) {
		w.running++
		w.wg.Go(w.run)
	}
}

// next removes and returns the first outbox. If there is none the writer ends.
func (w *writers) next() *outbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.first
	if o == nil {
		w.running--
		return nil
	}
	w.first, o.behind = o.behind, nil
	if w.first == nil {
		w.last = nil
	}
	return o
}

func (w *writers) run() {
	p := w.takePen()
	defer w.pens.Put(p)
	for o := w.next(); o != nil; o = w.next() {
		if w.panics.Do(panics.Session, func() { o.writeNow(p) }) != nil {
			o.spawn(func() { o.abandon(websocket.CloseInternalServerErr, internalError) })
		}
	}
}

func (w *writers) takePen() *pen {
	if p, ok := w.pens.Get().(*pen); ok {
		return p
	}
	p := &pen{}
	p.once = func(fd uintptr) bool {
		p.n, p.err = syscall.Write(int(fd), p.data)
		return true
	}
	return p
}

// pen is what one writer needs.
type pen struct {
	buffer []byte

	// once writes data to a socket without waiting, with the result in n and err.
	once func(fd uintptr) bool
	data []byte
	n    int
	err  error
}

// chunk returns the first frames of the batch, as many as go into one write, as bytes that are good until the next call.
func (p *pen) chunk(batch []outFrame) (chunk []byte, frames int) {
	chunk = p.buffer[:0]
	for frames < len(batch) && (frames == 0 || len(chunk)+len(batch[frames].payload) <= writeChunk) {
		chunk = appendFrame(chunk, batch[frames])
		frames++
	}
	if cap(chunk) <= 2*writeChunk {
		p.buffer = chunk
	}
	return chunk, frames
}

// try writes as much of the chunk as the socket takes without waiting, and returns the rest.
func (p *pen) try(socket syscall.RawConn, chunk []byte) (rest []byte, err error) {
	p.data = chunk
	err = socket.Write(p.once)
	p.data = nil
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // that of an earlier write, and nothing was written
		return chunk, nil
	case err != nil:
		return chunk, err
	case p.err == nil:
		return chunk[p.n:], nil
	case errors.Is(p.err, syscall.EAGAIN), errors.Is(p.err, syscall.EINTR):
		return chunk, nil
	}
	return chunk, p.err
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
