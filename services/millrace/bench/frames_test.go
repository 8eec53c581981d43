package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// framed returns a text frame with the payload as a server sends it.
func framed(payload []byte) []byte {
	b := []byte{0x80 | websocket.TextMessage}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

func TestFramesOfEverySizeAreRead(t *testing.T) {
	sizes := []int{0, 1, 125, 126, readSize - 1, readSize, readSize + 1, 1<<16 - 1, 1 << 16, 1 << 20, 5}
	var sent []byte
	for i, n := range sizes {
		sent = append(sent, framed(bytes.Repeat([]byte{byte('a' + i)}, n))...)
	}
	for name, in := range map[string]io.Reader{
		"at once": bytes.NewReader(sent), "in pieces": iotest.HalfReader(bytes.NewReader(sent)),
	} {
		t.Run(name, func(t *testing.T) {
			r := frameReader{in: bufio.NewReaderSize(in, readSize)}
			for i, n := range sizes {
				op, payload, err := r.next()
				require.NoError(t, err)
				require.Equal(t, websocket.TextMessage, op)
				require.True(t, bytes.Equal(bytes.Repeat([]byte{byte('a' + i)}, n), payload), n)
			}
			_, _, err := r.next()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

func TestFramesThatNoServerSendsAreRefused(t *testing.T) {
	for name, frame := range map[string][]byte{
		"fragmented": {websocket.TextMessage, 0}, "masked": {0x81, 0x80, 1, 2, 3, 4}, "reserved bit": {0xc1, 0},
		"too long": {0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		r := frameReader{in: bufio.NewReaderSize(bytes.NewReader(frame), readSize)}
		_, _, err := r.next()
		require.ErrorIs(t, err, errFrame, name)
	}
}

// FuzzFrames checks that what is read of any input is what the input has there.
func FuzzFrames(f *testing.F) {
	f.Add(append(framed([]byte("hello")), framed(bytes.Repeat([]byte("x"), 200))...))
	f.Add([]byte{0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := frameReader{in: bufio.NewReaderSize(bytes.NewReader(in), readSize)}
		rest := in
		for {
			_, payload, err := r.next()
			if err != nil {
				require.True(t, errors.Is(err, errFrame) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), err)
				return
			}
			at := bytes.Index(rest, payload)
			require.GreaterOrEqual(t, at, 0)
			rest = rest[at+len(payload):]
		}
	})
}
