package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/services/client"
)

const (
	historyAtStart = 20
	maxPosts       = 256 // unanswered lines, so that a long pipe does not end up in memory
	tendEvery      = time.Second
)

// chat is the terminal session. One goroutine reads lines, sends them and runs commands. The client's own goroutine prints
// pushes. A third one, tend, marks messages as read, reloads the history and saves the cursor file.
type chat struct {
	client *client.Client
	print  *printer
	view   *view
	cursor cursorFile

	reload chan struct{} // has an element when messages were missed for good
	posts  errgroup.Group
	failed atomic.Int64
}

// runChat chats until the input has ended and everything typed is accepted, until ctx ends, or until the client stops for
// good.
func runChat(ctx context.Context, o clientOptions, in io.Reader, out, status io.Writer) error {
	prints := &printer{out: out, status: status}
	h := &chat{print: prints, view: newView(prints), reload: make(chan struct{}, 1)}
	h.posts.SetLimit(maxPosts)
	h.cursor = cursorFile{path: o.cursorFile, user: o.user}

	cfg := o.config()
	var err error
	if cfg.Cursor, err = h.cursor.load(); err != nil {
		return err
	}
	h.view.enter(o.to())
	cfg.OnPush = h.view.push
	cfg.OnConnect = h.connected
	cfg.OnDisconnect = func(err error, retryIn time.Duration) {
		prints.state("disconnected (%v); trying again in %.1f s", err, retryIn.Seconds())
	}
	cfg.OnViolation = func(what string) { prints.state("the server broke the protocol: %s", what) }
	if h.client, err = o.dial(ctx, cfg); err != nil {
		return err
	}
	session := h.client.Session()
	h.cursor.user = session.User
	h.view.is(session.User)
	if o.to() != (client.Target{}) && (cfg.Cursor == nil || !session.Recovered) {
		h.report(h.showHistory(ctx, historyAtStart))
	}
	h.view.release()
	running, stop := context.WithCancel(ctx)
	var tending sync.WaitGroup
	tending.Go(func() { h.tend(running) })
	err = h.talk(running, in)
	stop()
	tending.Wait()
	err = errors.Join(err, h.client.Close(), h.cursor.save(h.client.Cursor()))
	_ = h.posts.Wait() // they have all ended with the client
	return err
}

func (h *chat) connected(s client.Connected) {
	h.view.is(s.User)
	switch {
	case !s.Recovered:
		h.print.state("connected as %d", s.User)
		select {
		case h.reload <- struct{}{}:
		default:
		}
	case !s.Complete:
		h.print.state("connected as %d; some of what you missed follows later", s.User)
	default:
		h.print.state("connected as %d", s.User)
	}
}

// talk handles lines until there are no more.
func (h *chat) talk(ctx context.Context, in io.Reader) error {
	lines := make(chan string)
	// Nobody waits for this goroutine, because a read from a terminal cannot be interrupted; the process ends after talk.
	go func() {
		defer close(lines)
		r := bufio.NewReader(in)
		for {
			line, err := r.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				select {
				case lines <- line:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.client.Done():
			return h.client.Err()
		case line, ok := <-lines:
			if !ok {
				return h.finish(ctx)
			}
			if quit := h.handle(ctx, line); quit {
				return h.finish(ctx)
			}
		}
	}
}

func (h *chat) handle(ctx context.Context, line string) (quit bool) {
	if strings.HasPrefix(line, "/") {
		quit, err := h.command(ctx, line)
		h.report(err)
		return quit
	}
	h.report(h.post(ctx, client.Send{Content: line}))
	return false
}

// post sends the message to the present conversation and does not wait for the answer.
func (h *chat) post(ctx context.Context, m client.Send) error {
	if m.Target = h.view.target(); m.Target == (client.Target{}) {
		return errors.New("to whom? Use /to USER or /group join ID")
	}
	sending := h.client.Post(ctx, m)
	h.posts.Go(func() error {
		if _, err := sending.Wait(); err != nil {
			h.failed.Add(1)
			if ctx.Err() == nil {
				h.print.state("not sent: %.40q: %v", m.Content, err)
			}
		}
		return nil
	})
	return nil
}

// finish waits until everything typed is answered.
func (h *chat) finish(ctx context.Context) error {
	_ = h.posts.Wait()
	if failed := h.failed.Load(); failed > 0 && ctx.Err() == nil {
		return fmt.Errorf("%d of the messages were not accepted", failed)
	}
	return nil
}

func (h *chat) report(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.print.state("%v", err)
	}
}

// tend does the work that may wait, so that it never delays printing messages.
func (h *chat) tend(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.reload:
			h.report(h.catchUp(ctx))
		case <-tick.C:
			if read, ok := h.view.unmarked(); ok {
				h.report(h.client.Do(ctx, read))
			}
			h.report(h.cursor.save(h.client.Cursor()))
		}
	}
}
