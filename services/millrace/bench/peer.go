package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"millrace/services/client"
)

// cork collects what is written until its owner is about to read, so that the answers to all frames of one read go out in one
// write.
type cork struct {
	net.Conn
	mu  sync.Mutex
	out []byte
}

func (c *cork) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, b...)
	return len(b), nil
}

// SetWriteDeadline does nothing. Gorilla sets one for each frame, a second for the answer to a ping, and this frame is written
// when its owner reads again, which may be later.
func (c *cork) SetWriteDeadline(time.Time) error { return nil }

func (c *cork) Read(b []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *cork) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// benchPeer is one user's connection. It is as cheap as it can be made, because the load shares its cores with the server.
type benchPeer struct {
	user int64
	ws   *websocket.Conn
	cork *cork
	buf  bytes.Buffer
	// cursor is the one that connecting has given.
	cursor client.Cursor
}

func dialBenchPeer(
	ctx context.Context, url string, secure *tls.Config, user int64, token func(context.Context) (string, error), cursor client.Cursor,
) (*benchPeer, error) {
	secret, err := token(ctx)
	if err != nil {
		return nil, fmt.Errorf("token of user %d: %w", user, err)
	}
	p := &benchPeer{user: user}
	var tcp net.Dialer
	d := websocket.Dialer{
		HandshakeTimeout: 10 * time.Second, Subprotocols: []string{client.Subprotocol}, ReadBufferSize: 16 << 10, TLSClientConfig: secure,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := tcp.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			p.cork = &cork{Conn: conn}
			return p.cork, nil
		},
	}
	if p.ws, _, err = d.DialContext(ctx, url, nil); err != nil {
		return nil, fmt.Errorf("open %s: %w", url, err)
	}
	stop := context.AfterFunc(ctx, p.cut)
	defer stop()
	if err := p.connect(secret, cursor); err != nil {
		p.cut()
		return nil, fmt.Errorf("connect user %d: %w", user, err)
	}
	return p, nil
}

func (p *benchPeer) connect(token string, cursor client.Cursor) error {
	f, err := p.ask(connectFrame, client.Connect{Token: token, Cursor: cursor})
	switch {
	case err != nil:
		return err
	case f.Connected == nil:
		return fmt.Errorf("unexpected answer %.200q", f.Raw)
	case f.Connected.User != p.user:
		return fmt.Errorf("the token is of user %d", f.Connected.User)
	}
	p.cursor = f.Connected.Cursor
	return nil
}

// createGroup makes a group and returns its id.
func (p *benchPeer) createGroup(create client.GroupCreate) (int64, error) {
	f, err := p.ask(groupFrame, create)
	switch {
	case err != nil:
		return 0, err
	case f.Group == nil:
		return 0, fmt.Errorf("unexpected answer %.200q", f.Raw)
	}
	return f.Group.GroupID, nil
}

// ask sends a request and returns its answer. It passes over pushes, and nothing else may be awaited on the connection.
func (p *benchPeer) ask(id int64, request client.Request) (client.Frame, error) {
	text, err := client.Encode(id, request)
	if err != nil {
		return client.Frame{}, err
	}
	if err := p.write(text); err != nil {
		return client.Frame{}, err
	}
	for {
		if text, err = p.next(); err != nil {
			return client.Frame{}, err
		}
		f, err := client.Decode(slices.Clone(text))
		switch {
		case err != nil:
			return f, err
		case f.Error != nil:
			return f, f.Error
		case f.ID == id:
			return f, nil
		}
	}
}

// write puts a frame into the buffer, which the next flush or read sends.
func (p *benchPeer) write(text []byte) error { return p.ws.WriteMessage(websocket.TextMessage, text) }

// next returns the next frame. It is valid until the next call.
func (p *benchPeer) next() ([]byte, error) {
	kind, r, err := p.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, errors.New("binary message")
	}
	p.buf.Reset()
	if _, err := p.buf.ReadFrom(r); err != nil {
		return nil, err
	}
	return p.buf.Bytes(), nil
}

// leave sends a close frame, if the connection still takes it, and ends the connection.
func (p *benchPeer) leave() {
	_ = p.cork.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if p.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second)) == nil {
		_ = p.cork.flush()
	}
	p.cut()
}

func (p *benchPeer) cut() { _ = p.ws.Close() }
