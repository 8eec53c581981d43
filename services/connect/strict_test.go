package connect

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"millrace/infra/security"
	"millrace/infra/security/securitytest"
)

// frameOf returns a client's frame whose length takes so many bytes.
func frameOf(op byte, lengthBytes int, payload string) []byte {
	b := []byte{finalBit | op}
	switch n := len(payload); lengthBytes {
	case 1:
		b = append(b, maskBit|byte(n))
	case 2:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|length16), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|length64), uint64(n))
	}
	key := []byte{1, 2, 3, 4}
	b = append(b, key...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

func closeFrame(code int, reason string) []byte {
	return frameOf(websocket.CloseMessage, 1, string(websocket.FormatCloseMessage(code, reason)))
}

// pieces is a connection whose reads return pieces of so many bytes.
type pieces struct {
	net.Conn
	data []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.data)
	p.data = p.data[n:]
	return n, nil
}

func TestFramesAreHeldToTheRFCInWhateverPiecesTheyCome(t *testing.T) {
	text := frameOf(websocket.TextMessage, 1, "hello")
	long := frameOf(websocket.TextMessage, 2, string(bytes.Repeat([]byte("x"), 300)))
	longer := frameOf(websocket.TextMessage, 8, string(bytes.Repeat([]byte("x"), 1<<16)))
	breach := errors.New("breach")
	for name, test := range map[string]struct {
		frames [][]byte
		code   int // with which the client closes
		err    error
	}{
		"frames of every length":       {[][]byte{text, long, longer, text}, 0, io.EOF},
		"a close":                      {[][]byte{text, closeFrame(1000, "bye")}, 1000, nil},
		"a close without a code":       {[][]byte{text, frameOf(websocket.CloseMessage, 1, "")}, 1005, nil},
		"a close by a bad gateway":     {[][]byte{closeFrame(1014, "")}, 1014, nil},
		"a close of the application":   {[][]byte{long, closeFrame(4999, "")}, 4999, nil},
		"a close of one byte":          {[][]byte{text, frameOf(websocket.CloseMessage, 1, "x")}, 0, breach},
		"a close with no code at all":  {[][]byte{frameOf(websocket.CloseMessage, 1, "\x03\xed")}, 0, breach},
		"a close of an unknown code":   {[][]byte{frameOf(websocket.CloseMessage, 1, "\x03\xf7")}, 0, breach},
		"a close reason not UTF-8":     {[][]byte{frameOf(websocket.CloseMessage, 1, "\x03\xe8\xff")}, 0, breach},
		"two bytes of length for five": {[][]byte{text, frameOf(websocket.TextMessage, 2, "hello")}, 0, breach},
		"eight bytes for 300":          {[][]byte{frameOf(websocket.TextMessage, 8, string(bytes.Repeat([]byte("x"), 300)))}, 0, breach},
		"a length of 64 bits":          {[][]byte{{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}}, 0, breach},
		"two bytes for a ping":         {[][]byte{frameOf(websocket.PingMessage, 2, "x")}, 0, breach},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				data := slices.Concat(test.frames...)
				got, err := io.ReadAll(&strictConn{Conn: &pieces{data: append(data, text...), size: size}})
				var byClient *websocket.CloseError
				var broken protocolError
				switch {
				case test.code != 0:
					require.ErrorAs(t, err, &byClient)
					require.Equal(t, test.code, byClient.Code)
				case errors.Is(test.err, breach):
					require.ErrorAs(t, err, &broken)
				default:
					require.NoError(t, err)
				}
				require.True(t, bytes.HasPrefix(append(data, text...), got), "what is passed on is what came")
				whole := slices.Concat(test.frames[:len(test.frames)-1]...)
				require.True(t, bytes.HasPrefix(got, whole), "all before the last frame is passed on")
			}
		})
	}
}

// Closing a session waits for nobody, even if TLS would send a close alert to a client that does not read.
func TestAConnectionByTLSIsClosedWithoutWaitingForItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key := securitytest.Certificate(t)
		files, err := security.TLSFiles{CA: cert, Cert: cert, Key: key}.Load()
		require.NoError(t, err)
		files.ServerName, files.SessionTicketsDisabled = "127.0.0.1", true // nothing is written after the handshake
		far, near := net.Pipe()                                            // a write waits until it is read
		client, server := tls.Client(far, files), tls.Server(near, files)
		shaken := make(chan error, 1)
		go func() { shaken <- client.HandshakeContext(t.Context()) }()
		require.NoError(t, server.HandshakeContext(t.Context()))
		require.NoError(t, <-shaken)
		began := time.Now()
		require.NoError(t, cutConn{server}.Close())
		require.Zero(t, time.Since(began))
		require.NoError(t, far.Close())
	})
}
