package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Subprotocol is the WebSocket subprotocol of the frames.
const Subprotocol = "millrace.v1.json"

const (
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second
	maxFrameBytes    = 64 << 20 // a page of history may have 200 messages of 32 KiB
	// A server pings every ping_seconds. If it sends nothing for two and a half times that, the client takes it to be gone.
	defaultPing = 25 * time.Second
)

// CloseError is the close frame that ended a connection. Its Code is 1006 if there was none.
type CloseError struct {
	Code   int
	Reason string
}

// The close codes beyond those of RFC 6455.
const (
	CloseNormal          = 1000
	CloseGoingAway       = 1001
	CloseUnauthenticated = 4001
	CloseTokenExpired    = 4003
	CloseTooSlow         = 4008
	CloseReplaced        = 4009
	CloseDisconnected    = 4010
	CloseTooMany         = 4029
)

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("connection closed: %d", e.Code)
	}
	return fmt.Sprintf("connection closed: %d %s", e.Code, e.Reason)
}

// Conn is a single connection. It writes the requests that it gets, and Read returns the server's frames in order. It keeps
// the cursor. Read may run concurrently with the other methods, but not with another Read.
type Conn struct {
	ws *websocket.Conn

	writing sync.Mutex

	mu     sync.Mutex
	cursor Cursor
	ping   time.Duration
}

// NetDial makes the network connection for a WebSocket, like the method DialContext of net.Dialer.
type NetDial func(ctx context.Context, network, address string) (net.Conn, error)

// Open opens a connection to a URL ws://HOST/ws or wss://HOST/ws. A nil dial means TCP, a nil secure means the default TLS
// configuration. The caller makes the first request, with [Conn.Connect].
func Open(ctx context.Context, url string, dial NetDial, secure *tls.Config) (*Conn, error) {
	d := websocket.Dialer{
		HandshakeTimeout: handshakeTimeout, Subprotocols: []string{Subprotocol}, NetDialContext: dial, TLSClientConfig: secure,
	}
	ws, resp, err := d.DialContext(ctx, url, nil)
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("open %s: %w (%s)", url, err, resp.Status)
		}
		return nil, fmt.Errorf("open %s: %w", url, err)
	}
	c := &Conn{ws: ws, ping: defaultPing}
	ws.SetReadLimit(maxFrameBytes)
	ws.SetPingHandler(func(data string) error {
		if err := c.expectMore(); err != nil {
			return err
		}
		// A pong that cannot be written breaks the connection, and the next read returns the error.
		_ = ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTimeout))
		return nil
	})
	return c, nil
}

// Connect makes the connect request with the id 1 and returns its answer. If the server refuses, the error is an *[Error] or
// a *[CloseError].
func (c *Conn) Connect(ctx context.Context, r Connect) (Connected, error) {
	if err := c.Write(connectID, r); err != nil {
		return Connected{}, err
	}
	f, err := c.Read(ctx)
	switch {
	case err != nil:
		return Connected{}, fmt.Errorf("connect: %w", err)
	case f.Error != nil:
		return Connected{}, fmt.Errorf("connect: %w", f.Error)
	case f.Connected == nil || f.ID != connectID:
		return Connected{}, fmt.Errorf("connect: unexpected answer %.200q", f.Raw)
	}
	return *f.Connected, nil
}

const connectID = 1

// Write sends a request with the id.
func (c *Conn) Write(id int64, r Request) error {
	text, err := Encode(id, r)
	if err != nil {
		return err
	}
	return c.WriteText(text)
}

// WriteText sends any text as a frame.
func (c *Conn) WriteText(text []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	if err := c.ws.WriteMessage(websocket.TextMessage, text); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Read returns the next frame after applying it to the cursor. The error is a *[CloseError] once the connection is closed,
// and a timeout if the server has been silent for 2.5 pings. After an error nothing more can be read. When ctx ends, Read
// cuts the connection.
func (c *Conn) Read(ctx context.Context) (Frame, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Cut() })
	defer stop()
	if err := c.expectMore(); err != nil {
		return Frame{}, err
	}
	kind, text, err := c.ws.ReadMessage()
	if err != nil {
		var closed *websocket.CloseError
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.As(err, &closed):
			return Frame{}, &CloseError{Code: closed.Code, Reason: closed.Text}
		}
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	if kind != websocket.TextMessage {
		return Frame{Raw: text}, errors.New("read frame: binary message")
	}
	f, err := Decode(text)
	if err != nil {
		return f, err
	}
	c.observe(&f)
	return f, nil
}

func (c *Conn) observe(f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Connected != nil {
		c.cursor = maps.Clone(f.Connected.Cursor)
		if f.Connected.PingSeconds > 0 {
			c.ping = time.Duration(f.Connected.PingSeconds) * time.Second
		}
	}
	if f.Push != nil {
		f.Violation = c.cursor.follow(f.Push)
	}
}

func (c *Conn) expectMore() error {
	c.mu.Lock()
	silence := c.ping * 5 / 2
	c.mu.Unlock()
	if err := c.ws.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	return nil
}

// Cursor returns the cursor that the next connection resumes with: everything that Read has returned lies before it.
func (c *Conn) Cursor() Cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.cursor)
}

// Leave tells the server that the connection ends (1000). The server's answer ends Read.
func (c *Conn) Leave() error {
	text := websocket.FormatCloseMessage(CloseNormal, "")
	if err := c.ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Cut ends the connection without a close frame, as a lost network does.
func (c *Conn) Cut() error {
	if err := c.ws.Close(); err != nil {
		return fmt.Errorf("cut connection: %w", err)
	}
	return nil
}
