package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// readSize is how much a peer reads at once, and how large the frames are that need no copy.
const readSize = 16 << 10

// frameReader reads the frames of a server (RFC 6455, 5.2), which are unmasked. It reads only those that are not fragmented,
// without the allocation and the copy for each that gorilla makes, because the load shares its cores with the server.
type frameReader struct {
	in    *bufio.Reader
	large []byte
}

var errFrame = errors.New("malformed frame")

// next returns the opcode and the payload of the next frame. The payload is valid until the next call.
func (r *frameReader) next() (op int, payload []byte, err error) {
	header, err := r.in.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	first, size := header[0], uint64(header[1])
	if first&0xf0 != 0x80 || size > 127 {
		return 0, nil, fmt.Errorf("%w: header %x", errFrame, header)
	}
	length := 2
	switch size {
	case 126:
		length = 4
	case 127:
		length = 10
	}
	if length > 2 {
		if header, err = r.in.Peek(length); err != nil {
			return 0, nil, err
		}
		if size = uint64(binary.BigEndian.Uint16(header[2:])); length == 10 {
			size = binary.BigEndian.Uint64(header[2:])
		}
	}
	if size > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, size)
	}
	if _, err := r.in.Discard(length); err != nil {
		return 0, nil, err
	}
	if size <= readSize {
		if payload, err = r.in.Peek(int(size)); err != nil {
			return 0, nil, err
		}
		_, err = r.in.Discard(int(size))
		return int(first & 0xf), payload, err
	}
	if uint64(cap(r.large)) < size {
		r.large = make([]byte, size)
	}
	payload = r.large[:size]
	_, err = io.ReadFull(r.in, payload)
	return int(first & 0xf), payload, err
}

// maxFrame is more than any frame of a server has.
const maxFrame = 16 << 20
