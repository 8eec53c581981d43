// Package client speaks Millrace's WebSocket protocol from the user's side.
//
// [Conn] is one connection: frames in, frames out, a cursor. [Client] is a session that outlives connections. Callers put
// requests into its queue. One goroutine writes them and another reads: answers end the calls, pushes go to the handler. When
// the connection breaks, the requests without an answer go back into the queue in their order and the client connects again
// with its cursor. The server then sends what was missed before anything newer.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Config says where to connect, and which functions to call.
//
// The client calls the functions one at a time, and reads nothing while one runs. So a slow function slows down the server. A
// function must neither wait for an answer of this client nor close it.
type Config struct {
	// URL is the server's URL: ws://HOST/ws or, with TLS, wss://HOST/ws.
	URL string
	// NetDial makes the network connections. Nil means TCP.
	NetDial NetDial
	// TLS is used for a wss:// URL. Nil means that the system's authorities are trusted.
	TLS *tls.Config
	// Token returns a token. The client calls it at first, and again when the server requires another token.
	Token func(context.Context) (string, error)
	// Device names this client among those of its user: a new connection of a device replaces the older ones. It may be
	// empty.
	Device string
	// Cursor is the cursor of an earlier run. With nil the client gets only what comes from now on.
	Cursor Cursor

	// OnPush is called for the pushes in order, and for each message_id and each notice_id once.
	OnPush func(Push)
	// OnConnect is called for every connection, before its pushes. If Recovered is false, pushes were missed for good and the
	// caller has to load the history.
	OnConnect func(Connected)
	// OnDisconnect is called with the reason when a connection has ended or could not be made, and with the time until the
	// next attempt.
	OnDisconnect func(err error, retryIn time.Duration)
	// OnViolation is called when the server breaks the protocol: a position does not follow the one before it.
	OnViolation func(what string)

	// Window is how many sends to one target may be in flight; 0 means any number. A send that is refused as unavailable is
	// repeated before those that wait, but those in flight may have been accepted. With 1 the order is kept even then.
	Window int
	// SeenMessages is how many ids of messages and notices the client remembers in order to show each once; 0 means 10,000.
	SeenMessages int
	// Backoff is the wait between attempts to connect; zero fields mean 100 ms, 10 s and 5 s.
	Backoff Backoff
}

// The errors that end a client for good.
var (
	ErrClosed   = errors.New("client closed")
	ErrReplaced = errors.New("replaced by another connection of this device")
	// ErrDisconnected says that an operator has disconnected the client.
	ErrDisconnected = errors.New("disconnected by the operator")
	ErrRefused      = errors.New("the server refuses the token")
)

const defaultSeen = 10_000

// Client is a user's session that outlives connections. It is safe for concurrent use. Every request waits for a connection,
// and is repeated on the next one until it is answered or its context ends; the protocol allows to repeat all of them.
type Client struct {
	cfg   Config
	queue *queue
	seen  *simplelru.LRU[string, struct{}]

	mu      sync.Mutex
	cursor  Cursor
	conn    *Conn
	session Connected
	leaving bool
	err     error

	// token, refusedTokens and tries are used only by the goroutine that connects.
	token         string
	refusedTokens int
	tries         int

	stop context.CancelFunc
	done chan struct{}
}

// Dial connects once. If that fails it returns the reason, which is an *[Error] or a *[CloseError] if the server gave one.
// After that the client reconnects by itself until it is closed, it is replaced, or its token is refused. ctx bounds the
// first connection only.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg.Backoff = cfg.Backoff.withDefaults()
	if cfg.SeenMessages <= 0 {
		cfg.SeenMessages = defaultSeen
	}
	if cfg.OnPush == nil {
		cfg.OnPush = func(Push) {}
	}
	if cfg.OnConnect == nil {
		cfg.OnConnect = func(Connected) {}
	}
	if cfg.OnDisconnect == nil {
		cfg.OnDisconnect = func(error, time.Duration) {}
	}
	if cfg.OnViolation == nil {
		cfg.OnViolation = func(string) {}
	}
	seen, err := simplelru.NewLRU[string, struct{}](cfg.SeenMessages, nil)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, queue: newQueue(cfg.Window, cfg.Backoff), seen: seen,
		cursor: maps.Clone(cfg.Cursor), done: make(chan struct{}),
	}
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go c.run(running)
	return c, nil
}

// Done returns a channel that is closed when the client has ended for good; [Client.Err] then returns why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client has ended, or nil if it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Session returns the latest answer to connect.
func (c *Client) Session() Connected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// Cursor returns the cursor that a later run resumes with: OnPush has returned for everything before it.
func (c *Client) Cursor() Cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.cursor)
}

// Close takes leave of the server, ends the unanswered requests with [ErrClosed] and waits until nothing runs any more.
func (c *Client) Close() error {
	c.mu.Lock()
	c.leaving = true
	conn := c.conn
	c.mu.Unlock()
	if conn == nil || conn.Leave() != nil {
		c.stop()
	}
	goodbye := time.NewTimer(time.Second)
	defer goodbye.Stop()
	select {
	case <-c.done:
	case <-goodbye.C:
	}
	c.stop()
	<-c.done
	return nil
}
