package proof

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	opText, opBinary, opPing = 1, 2, 9
	finished                 = 0x80

	garbageUsers = 60_000
	fuzzed       = 1_000_000
	fuzzers      = 16
)

// appendFrame appends a client's frame; its mask is of zeros.
func appendFrame(b []byte, first byte, payload string) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func textFrame(payload string) []byte { return appendFrame(nil, finished|opText, payload) }

// vandal is a connection that writes arbitrary bytes.
type vandal struct{ *websocket.Conn }

func openVandal(ctx context.Context, url string) (vandal, error) {
	conn, response, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
	if err != nil {
		return vandal{}, err
	}
	_ = response.Body.Close()
	return vandal{conn}, conn.SetReadDeadline(time.Now().Add(Healing))
}

// connectVandal opens a vandal and connects as the user.
func connectVandal(ctx context.Context, url string, user int64) (vandal, error) {
	v, err := openVandal(ctx, url)
	if err != nil {
		return v, err
	}
	t, err := Token(user)(ctx)
	if err != nil {
		return v, err
	}
	if err := v.write(textFrame(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, t))); err != nil {
		return v, err
	}
	_, answer, err := v.ReadMessage()
	if err == nil && !strings.Contains(string(answer), `"connected"`) {
		err = fmt.Errorf("not connected: %s", answer)
	}
	return v, err
}

func (v vandal) write(b []byte) error {
	if err := v.NetConn().SetWriteDeadline(time.Now().Add(Healing)); err != nil { // instead of that of the last pong
		return err
	}
	_, err := v.NetConn().Write(b)
	return err
}

// code returns the code with which the connection is closed.
func (v vandal) code() (int, error) {
	defer v.Close()
	for {
		_, _, err := v.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return closed.Code, nil
		case err != nil:
			return 0, err
		}
	}
}

func (v vandal) mustEnd(what string, want int) error {
	code, err := v.code()
	if err == nil && code != want {
		err = fmt.Errorf("code %d, want %d", code, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
