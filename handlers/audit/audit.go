// Package audit keeps a log of who did what, when and in which conversation, one JSON object a line, never the content.
// It shows all that a handler needs: a constructor, a Handler method, an fx module, and a line in handlers/module.go.
package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
	"go.uber.org/fx"

	"millrace/events"
)

// Module provides the handler; it needs a [Config].
var Module = fx.Module("audit", fx.Provide(
	fx.Annotate(Open, fx.OnStop((*Audit).Close)),
	fx.Annotate((*Audit).Handler, fx.ResultTags(`group:"handlers"`)),
))

// Config says where the log is.
type Config struct{ Path string }

// Audit appends to the log. A record that comes again is not written again.
type Audit struct {
	lock    *flock.Flock
	file    *os.File
	mu      sync.Mutex
	size    int64           // of the whole lines
	highest map[int32]int64 // position of each partition's last line

	syncing sync.Mutex
	synced  int64 // size that is known to be on the disk
}

type entry struct {
	When         int64       `json:"when"` // Unix seconds
	Who          int64       `json:"who"`
	Type         events.Type `json:"type"`
	Conversation string      `json:"conversation"`
	MessageID    string      `json:"message_id,omitempty"`
	Partition    int32       `json:"partition"`
	Seq          int64       `json:"seq"`
}

// Open opens the log, alone: another process with the same path is an error. It reads what is there, to go on behind it.
func Open(c Config) (*Audit, error) {
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a := &Audit{lock: flock.New(c.Path + ".lock"), highest: make(map[int32]int64)}
	if locked, err := a.lock.TryLock(); err != nil || !locked {
		return nil, errors.Join(fmt.Errorf("audit: %s is in use by another process", c.Path), err)
	}
	var err error
	if a.file, err = os.OpenFile(c.Path, os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		err = a.read()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit: %s: %w", c.Path, err), a.Close())
	}
	return a, nil
}

// read learns how far the log goes. A last line without its end, torn by a crash, is cut off.
func (a *Audit) read() error {
	for lines := bufio.NewReader(a.file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return a.file.Truncate(a.size)
		}
		var e entry
		if err = errors.Join(err, json.Unmarshal(line, &e)); err != nil {
			return fmt.Errorf("line at byte %d: %w", a.size, err)
		}
		a.highest[e.Partition] = max(a.highest[e.Partition], e.Seq)
		a.size += int64(len(line))
	}
}

// Handler is its entry for the router.
func (a *Audit) Handler() events.Handler {
	return events.Handler{Name: "audit", Topic: events.TopicMessages, Group: "audit-consumer-group", Handle: a.handle}
}

func (a *Audit) handle(_ context.Context, r events.Record) error {
	size, err := a.append(&r)
	if err == nil {
		err = a.sync(size)
	}
	return err // says itself which operation and which file
}

// append answers the size that must be on the disk for the record to be.
func (a *Audit) append(r *events.Record) (int64, error) {
	e := entry{
		When: r.Timestamp, Who: r.By, Type: r.Type, Conversation: r.ConversationKey(), MessageID: r.MessageID,
		Partition: r.Partition, Seq: r.Seq,
	}
	switch r.Type {
	case events.NewMessage:
		e.Who, e.MessageID = r.Message.From, r.Message.MessageID
	case events.MessageRead:
		e.Who = r.User
	}
	line, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Seq <= a.highest[r.Partition] {
		return a.size, nil
	}
	// At the end of the whole lines: what a failed write has left there is written over.
	n, err := a.file.WriteAt(append(line, '\n'), a.size)
	if err != nil {
		return 0, err
	}
	a.size += int64(n)
	a.highest[r.Partition] = r.Seq
	return a.size, nil
}

// sync brings the log to the disk up to the size; who waits meanwhile is served by the next sync together.
func (a *Audit) sync(size int64) error {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	if a.synced >= size {
		return nil
	}
	a.mu.Lock()
	written := a.size
	a.mu.Unlock()
	if err := a.file.Sync(); err != nil {
		return err
	}
	a.synced = written
	return nil
}

// Close closes the log.
func (a *Audit) Close() error { return errors.Join(a.file.Close(), a.lock.Close()) }
