package connect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"millrace/infra/panics"
)

const (
	lingerTime = time.Second
	// escape is the longest form of a character in JSON.
	escape = `\u0000`
)

var (
	errTooLarge = errors.New("frame too large")
	errFlood    = errors.New("too many control frames")
)

// read handles the client's frames until the connection fails or the client answers the close frame.
func (s *session) read() error {
	s.conn.SetPingHandler(func(data string) error { return s.control(outFrame{op: websocket.PongMessage, payload: []byte(data)}) })
	s.conn.SetPongHandler(s.pong)
	for {
		kind, data, err := s.next()
		switch {
		case err != nil:
			return err
		case s.closing.Load():
			continue
		}
		s.alive()
		switch {
		case kind == websocket.BinaryMessage:
			s.close(websocket.CloseUnsupportedData, "want text")
		case !utf8.Valid(data):
			s.close(websocket.CloseInvalidFramePayloadData, "not UTF-8")
		case !s.frames.Allow():
			s.gw.metrics.limited.WithLabelValues(limitedFrames).Inc()
			s.close(closeFlood, fmt.Sprintf("too many frames: at most %.0f a second", s.frames.Limit()))
		case s.out.room(s.ctx, &s.out.answers) == nil: // otherwise the connection is closing
			s.handle(data)
		}
	}
}

// pong counts the frame against the limit unless the lanes have asked for it.
func (s *session) pong(data string) error {
	if s.lanes.pong(data) {
		s.alive()
		return nil
	}
	return s.control(outFrame{})
}

// control answers a control frame.
func (s *session) control(answer outFrame) error {
	s.alive()
	switch {
	case s.closing.Load():
	case !s.controls.Allow():
		return errFlood
	case answer.op != 0:
		s.out.put(answer)
	}
	return nil
}

// next reads a message of at most MaxFrame bytes. An escape such as \u4e2d counts as one byte, so that all content that is
// short enough fits, whether or not the client's encoder escapes what is not ASCII.
func (s *session) next() (kind int, data []byte, err error) {
	kind, r, err := s.conn.NextReader()
	if err != nil {
		return 0, nil, err
	}
	if s.closing.Load() {
		return kind, nil, nil
	}
	reading := s.gw.scratch.Get().(*scratch) //nolint:errcheck,forcetypeassert // it holds nothing else
	defer s.gw.scratch.Put(reading)
	data, err = reading.readLimited(r, s.gw.cfg.MaxFrame)
	return kind, data, err
}

// scratch is what reading a frame takes. It collects the frame, so that what remains of the frame is as long as the frame.
type scratch struct {
	data bytes.Buffer
	part io.LimitedReader
}

// readLimited reads all of r. It fails with errTooLarge as soon as it has read more than the limit, because the rest may
// never come. An escape counts as one byte. gorilla's own limit is not used because it closes without a reason.
func (s *scratch) readLimited(r io.Reader, limit int64) ([]byte, error) {
	data := &s.data
	data.Reset()
	s.part.R = r
	defer func() { s.part.R = nil }()
	for size := int64(0); size <= limit; {
		before := data.Len()
		s.part.N = limit + 1 - size
		if _, err := data.ReadFrom(&s.part); err != nil {
			return nil, err
		}
		if s.part.N > 0 { // r has ended
			return bytes.Clone(data.Bytes()), nil
		}
		added := data.Bytes()[max(0, before-1):] // an escape may have begun with the last byte before
		size += int64(data.Len() - before - (len(escape)-1)*bytes.Count(added, []byte(escape[:2])))
	}
	return nil, errTooLarge
}

// hangUp ends the connection after reading has ended. It first writes the close frame and goes on reading for a moment,
// because closing a socket with unread input would discard what was written to it.
func (s *session) hangUp(err error) {
	conn := s.conn.NetConn()
	defer conn.Close()
	var byClient *websocket.CloseError
	var breach protocolError
	switch {
	case errors.As(err, &byClient) && byClient.Code != websocket.CloseAbnormalClosure:
		code := byClient.Code
		if code == websocket.CloseNoStatusReceived {
			code = websocket.CloseNormalClosure
		}
		s.closeNow(code, "")
		<-s.out.done
		return
	case errors.As(err, &breach):
		s.close(websocket.CloseProtocolError, breach.Error())
	case errors.Is(err, panics.ErrPanic):
		s.closeNow(websocket.CloseInternalServerErr, internalError)
	case errors.Is(err, errTooLarge), errors.Is(err, websocket.ErrReadLimit):
		s.close(websocket.CloseMessageTooBig, "frame too large")
	case errors.Is(err, errFlood):
		s.close(closeFlood, "too many pings")
	case s.closing.Load(), gone(err):
		if !s.closing.Load() {
			s.gw.metrics.close(websocket.CloseAbnormalClosure)
		}
		s.out.drop()
		_ = conn.Close() // this ends a write that hangs
		<-s.out.done
		return
	default:
		s.out.drop() // gorilla has sent the close frame, with 1002
	}
	<-s.out.done
	_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, conn)
}

// gone reports whether the connection itself has failed.
func gone(err error) bool {
	var network net.Error
	return websocket.IsCloseError(err, websocket.CloseAbnormalClosure) || errors.As(err, &network) || errors.Is(err, net.ErrClosed)
}
