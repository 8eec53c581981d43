// Package redis shares between processes what may be lost at any time: which events handlers have handled. Redis is only a
// cache. A call gives up when Redis does not respond within 100 ms, and for the next second no call waits for it at all. While
// Redis does not respond, work may be done twice where a partition has just come from another process, and nothing else depends
// on it.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"millrace/infra/security"
)

const (
	// patience is how long a call may take.
	patience = 100 * time.Millisecond
	// pause is how long no call waits for Redis after it has failed to respond.
	pause = time.Second
	// prefix begins every key.
	prefix = "millrace:"
)

// errPaused is the error of a call during the pause.
var errPaused = errors.New("redis has failed just now")

// Client is a connection to Redis. It is safe for concurrent use.
type Client struct {
	redis *redis.Client
	log   *slog.Logger

	mu     sync.Mutex
	failed time.Time // when Redis last failed to respond; zero if it responds
}

// Config says how to reach Redis.
type Config struct {
	// Address is host:port, or a redis:// or rediss:// (TLS) URL, which may contain user, password and database.
	Address string
	// Password replaces that of the URL, if it is not empty.
	Password string
	// TLS is used with a rediss:// URL.
	TLS security.TLSFiles
}

// Check returns what is wrong with the configuration. The error contains no values, because they may be passwords.
func (c Config) Check() error {
	_, err := c.options()
	return err
}

func (c Config) options() (*redis.Options, error) {
	options := &redis.Options{Addr: c.Address}
	_, _, err := net.SplitHostPort(c.Address)
	if strings.Contains(c.Address, "://") || strings.Contains(c.Address, "@") {
		options, err = redis.ParseURL(c.Address)
	}
	if err != nil {
		return nil, errors.New("is neither host:port nor redis://USER:PASSWORD@HOST:PORT/DATABASE (rediss:// for TLS), user and password percent-encoded")
	}
	if c.Password != "" {
		options.Password = c.Password
	}
	switch {
	case options.TLSConfig != nil:
		files, err := c.TLS.Load()
		if err != nil {
			return nil, err
		}
		options.TLSConfig.RootCAs, options.TLSConfig.Certificates = files.RootCAs, files.Certificates
	case c.TLS.Named():
		return nil, errors.New("is no rediss:// URL, while files for TLS are named")
	}
	return options, nil
}

// Open returns a client. It does not connect, because Redis may come and go.
func Open(c Config, log *slog.Logger) (*Client, error) {
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	options.MaxRetries = -1
	options.DialerRetries = 1
	options.DialTimeout, options.PoolTimeout = patience, patience
	options.ReadTimeout, options.WriteTimeout = patience, patience
	options.ContextTimeoutEnabled = true
	return &Client{redis: redis.NewClient(options), log: log}, nil
}

// Close ends the connections.
func (c *Client) Close() error {
	if err := c.redis.Close(); err != nil {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

// do makes a call, unless Redis has just failed. It logs a failure once, and then not again until a call succeeds.
func (c *Client) do(ctx context.Context, call func(context.Context) error) error {
	c.mu.Lock()
	paused := time.Since(c.failed) < pause
	c.mu.Unlock()
	if paused {
		return errPaused
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := call(bounded)
	if err != nil && ctx.Err() != nil {
		return err // the caller has given up, which says nothing about Redis
	}
	c.mu.Lock()
	before := c.failed
	if c.failed = (time.Time{}); err != nil {
		c.failed = time.Now()
	}
	c.mu.Unlock()
	switch {
	case err != nil && before.IsZero():
		c.log.WarnContext(ctx, "redis does not answer; going on without", "error", err)
	case err == nil && !before.IsZero():
		c.log.InfoContext(ctx, "redis answers again")
	}
	return err
}

// Silence stops the library from writing lines of its own to standard error; [Client] logs what matters. main calls it before
// any client is made.
func Silence() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}
