package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"millrace/events"
)

const (
	// settled is how long a connection must last for the next attempt to begin with the shortest wait again.
	settled = 5 * time.Second
	// maxRefusedTokens is how many new tokens in a row may be refused before the client stops asking for another.
	maxRefusedTokens = 3
)

// run is the main goroutine of the client: it serves one connection after the other.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	for {
		start := time.Now()
		err := c.serve(ctx)
		c.queue.lost()
		if time.Since(start) >= settled {
			c.tries = 0
		}
		if err = c.reconnect(ctx, err); err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			c.queue.close(err)
			return
		}
	}
}

// serve reads the present connection until it ends, while a second goroutine writes.
func (c *Client) serve(ctx context.Context) error {
	c.mu.Lock()
	conn, session := c.conn, c.session
	c.mu.Unlock()
	c.cfg.OnConnect(session)

	writing, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() { c.write(writing, conn) })
	defer func() {
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
		stop()
		_ = conn.Cut() // this ends a write that blocks
		writer.Wait()
	}()
	for {
		f, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		if f.Violation != "" {
			c.cfg.OnViolation(f.Violation)
		}
		if f.Push != nil {
			c.push(f.Push)
		} else if !c.queue.answer(f, time.Now()) && f.Error != nil {
			c.cfg.OnViolation("an error that answers nothing: " + f.Error.Error())
		}
	}
}

func (c *Client) push(p *Push) {
	if id := idOf(p); id == "" || !c.seen.Contains(id) {
		c.seen.Add(id, struct{}{})
		c.cfg.OnPush(*p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cursor.follow(p)
}

// idOf returns what the push has in common with its repeats, or an empty string if it has none.
func idOf(p *Push) string {
	switch {
	case p.Type == events.NewMessage && p.Message != nil:
		return p.Message.MessageID
	case p.Type == events.SystemNotice:
		return "notice " + p.NoticeID
	}
	return ""
}

// write writes the waiting requests. If that fails it breaks the connection, which ends the reader.
func (c *Client) write(ctx context.Context, conn *Conn) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		call, id, wait := c.queue.next(time.Now())
		if call != nil {
			if conn.WriteText(frameOf(id, call.req, call.body)) != nil {
				_ = conn.Cut()
				return
			}
			continue
		}
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
		case <-c.queue.wake:
		case <-timer.C:
		}
	}
}

// reconnect tries until there is a connection. It returns an error if the client must give up.
func (c *Client) reconnect(ctx context.Context, cause error) error {
	for ctx.Err() == nil && !c.isLeaving() {
		var closed *CloseError
		wait := c.cfg.Backoff.wait(c.tries)
		refused := errors.Is(cause, &Error{Code: Unauthenticated})
		if errors.As(cause, &closed) {
			switch closed.Code {
			case CloseReplaced:
				return ErrReplaced
			case CloseDisconnected:
				return ErrDisconnected
			case CloseGoingAway:
				if c.tries == 0 {
					wait = rand.N(c.cfg.Backoff.GoingAway)
				}
			case CloseUnauthenticated:
				refused = true
			case CloseTokenExpired:
				c.token = ""
			}
		}
		if refused {
			c.token = ""
			if c.refusedTokens++; c.refusedTokens == maxRefusedTokens {
				return fmt.Errorf("%w: %w", ErrRefused, cause)
			}
		}
		c.tries++
		c.cfg.OnDisconnect(cause, wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ErrClosed
		case <-timer.C:
		}
		if cause = c.connect(ctx); cause == nil {
			return nil
		}
	}
	return ErrClosed
}

func (c *Client) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// connect makes one attempt.
func (c *Client) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*handshakeTimeout)
	defer cancel()
	if c.token == "" {
		token, err := c.cfg.Token(ctx)
		if err != nil {
			return fmt.Errorf("token: %w", err)
		}
		c.token = token
	}
	conn, err := Open(ctx, c.cfg.URL, c.cfg.NetDial, c.cfg.TLS)
	if err != nil {
		return err
	}
	session, err := conn.Connect(ctx, Connect{Token: c.token, Device: c.cfg.Device, Cursor: c.Cursor()})
	if err != nil {
		_ = conn.Cut()
		return err
	}
	c.refusedTokens = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.session, c.cursor = conn, session, conn.Cursor()
	if c.leaving {
		_ = conn.Cut()
	}
	return nil
}
