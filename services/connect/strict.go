package connect

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"syscall"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// strictWriter makes hijacked connections strict about frames.
type strictWriter struct{ http.ResponseWriter }

func (w strictWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if secured, ok := conn.(*tls.Conn); ok {
		conn = cutConn{secured}
	}
	return &strictConn{Conn: conn}, buffered, nil
}

// cutConn is a TLS connection whose Close does not wait. That of TLS itself first sends a close alert, for which it waits up
// to 5 s if the client does not read, and closing a session must not wait for its client. The close frame has told the client
// already.
type cutConn struct{ *tls.Conn }

func (c cutConn) Close() error { return c.NetConn().Close() }

// strictConn checks the headers of a client's frames before gorilla sees them, because gorilla accepts some that RFC 6455
// forbids: a length in more bytes than it needs (5.2) and a close frame with one byte of payload (5.5.1). It handles close
// frames itself, because gorilla does not know all codes: Read then returns a [websocket.CloseError]. Other breaches of the
// RFC are left to gorilla. Reads must not overlap.
type strictConn struct {
	net.Conn

	header []byte // of the frame that is being read, as much as has come
	left   uint64 // bytes of the frame's payload that are still to come
	close  []byte // the payload that has come, if the frame is a close frame; else nil
	err    error  // once set, reading has ended
}

// SyscallConn returns the socket, if there is one. What is written to it is what is written to the connection.
func (c *strictConn) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// protocolError is a breach of RFC 6455.
type protocolError string

func (e protocolError) Error() string { return string(e) }

func (c *strictConn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	passed := c.inspect(p[:n])
	if c.err == nil {
		return n, err
	}
	if passed > 0 {
		return passed, nil
	}
	return 0, c.err
}

// inspect follows the frames in the data and returns how much of it gorilla gets: all of it, unless inspect has set err.
func (c *strictConn) inspect(data []byte) (passed int) {
	for passed < len(data) {
		if c.left > 0 {
			n := int(min(c.left, uint64(len(data)-passed)))
			if c.close != nil {
				c.close = append(c.close, data[passed:passed+n]...)
			}
			passed += n
			if c.left -= uint64(n); c.left == 0 && c.close != nil {
				c.err = c.closed()
				return passed - n
			}
			continue
		}
		c.header = append(c.header, data[passed])
		passed++
		if len(c.header) < 2 || len(c.header) < headerSize(c.header[1]) {
			continue
		}
		if c.err = c.begin(); c.err != nil {
			return passed - 1
		}
	}
	return passed
}

// Bits and values of a frame's header (RFC 6455, 5.2).
const (
	finalBit     = 0x80
	maskBit      = 0x80
	length16     = 126
	length64     = 127
	controlLimit = 125
	keySize      = 4
)

// headerSize returns the size of a header by its second byte.
func headerSize(second byte) int {
	size := 2
	switch second &^ maskBit {
	case length16:
		size += 2
	case length64:
		size += 8
	}
	if second&maskBit != 0 {
		size += keySize
	}
	return size
}

// begin starts the frame whose header is complete.
func (c *strictConn) begin() error {
	length := uint64(c.header[1] &^ maskBit)
	switch length {
	case length16:
		if length = uint64(binary.BigEndian.Uint16(c.header[2:])); length < length16 {
			return protocolError("a length in more bytes than it needs")
		}
	case length64:
		if length = binary.BigEndian.Uint64(c.header[2:]); length < 1<<16 || length>>63 != 0 {
			return protocolError("a length in more bytes than it needs, or of 64 bits")
		}
	}
	if c.header[0] == finalBit|websocket.CloseMessage && c.header[1]&maskBit != 0 && length <= controlLimit {
		c.close = append(make([]byte, 0, keySize+length), c.header[len(c.header)-keySize:]...)
		if length == 0 {
			return c.closed()
		}
	}
	c.header, c.left = c.header[:0], length
	return nil
}

// closed returns the error that ends reading at a close frame.
func (c *strictConn) closed() error {
	key, payload := c.close[:keySize], c.close[keySize:]
	for i := range payload {
		payload[i] ^= key[i%keySize]
	}
	switch {
	case len(payload) == 0:
		return &websocket.CloseError{Code: websocket.CloseNoStatusReceived}
	case len(payload) == 1:
		return protocolError("a close frame with one byte")
	}
	code, reason := int(binary.BigEndian.Uint16(payload)), payload[2:]
	switch {
	case !mayClose(code):
		return protocolError("a close code that none may send")
	case !utf8.Valid(reason):
		return protocolError("a close reason that is not UTF-8")
	}
	return &websocket.CloseError{Code: code, Text: string(reason)}
}

// mayClose reports whether a client may send the close code: IANA has registered it for that, or it is left to libraries and
// applications (RFC 6455, 7.4.2).
func mayClose(code int) bool {
	switch code {
	case websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure, 1004:
		return false
	}
	return code >= websocket.CloseNormalClosure && code <= 1014 || code >= 3000 && code <= 4999
}
