// Package client speaks Millrace's WebSocket protocol from the user's side.
//
// [Conn] is one connection: frames in, frames out, a cursor. [Client] keeps a conversation going over as many of them as
// it takes. Callers put requests into its queue; one goroutine writes them, another reads: answers end the calls, pushes
// go to the handler. When the connection breaks, what was not answered goes back into the queue in its order, the client
// connects again with the cursor, and the server sends what was missed before anything newer.
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

// Config says where to connect and what to do with what comes.
//
// The functions are called one at a time. While one runs nothing is read, so that a slow one slows the server down; it
// must neither wait for an answer of this client nor close it.
type Config struct {
	// URL is the server's, ws://HOST/ws or, by TLS, wss://HOST/ws.
	URL string
	// NetDial makes the network connections; nil: over TCP.
	NetDial NetDial
	// TLS is for a wss:// URL; nil: the system's authorities are trusted.
	TLS *tls.Config
	// Token gives a token: at first, and again when the server wants another.
	Token func(context.Context) (string, error)
	// Device names this client among those of its user: the newest connection of a device replaces the others. May be empty.
	Device string
	// Cursor is where an earlier run ended; nil to begin with what comes from now on.
	Cursor Cursor

	// OnPush gets the pushes in order, each message_id once.
	OnPush func(Push)
	// OnConnect is told of every connection, before its pushes. Recovered is false when pushes were missed for good and
	// history has to be loaded.
	OnConnect func(Connected)
	// OnDisconnect is told why a connection ended or could not be made, and when the next attempt follows.
	OnDisconnect func(err error, retryIn time.Duration)
	// OnViolation is told of what the server should not have done: a position that does not follow the one before it.
	OnViolation func(what string)

	// Window is how many sends to one target may be in flight; 0: any number. A refused send is repeated before those
	// that wait, but those already in flight may have been accepted: with 1 the order is kept even then.
	Window int
	// SeenMessages is how many message ids are remembered to show each once; 0: 10,000.
	SeenMessages int
	// Backoff is between attempts; zero fields mean 100 ms, 10 s and 5 s.
	Backoff Backoff
}

// Errors that end a client for good.
var (
	ErrClosed   = errors.New("client closed")
	ErrReplaced = errors.New("replaced by another connection of this device")
	ErrRefused  = errors.New("the server refuses the token")
)

const defaultSeen = 10_000

// Client is a user's session that outlives connections. Its methods may be called concurrently. Every request waits for
// a connection and is repeated on the next one until it is answered or its context ends; all of the protocol's requests
// can be repeated.
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

	// token, refusedTokens and tries belong to the goroutine that connects.
	token         string
	refusedTokens int
	tries         int

	stop context.CancelFunc
	done chan struct{}
}

// Dial connects, once: if that fails it returns the reason, an *[Error] or a *[CloseError] if the server gave one. From
// then on the client reconnects by itself until it is closed, replaced, or its token refused. ctx bounds the first
// connection only.
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

// Done is closed when the client has ended for good; [Client.Err] then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the client ended, nil as long as it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Session is the latest answer to connect.
func (c *Client) Session() Connected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// Cursor is what a later run resumes with: OnPush has returned for everything before it.
func (c *Client) Cursor() Cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.cursor)
}

// Close says goodbye to the server, ends what is unanswered with [ErrClosed] and waits until nothing runs any more.
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
