// Package audit keeps a log of who did what, when and in which conversation: one JSON object a line, never the content.
//
// It is the handler to copy for one of your own. This file is all that a handler needs: a constructor, the functions that do
// the work, Handler, which tells the router what it needs to know, and an fx module. Beside it there is one line in
// handlers/module.go. The router passes records in batches, because the expensive part (here bringing the file to the disk)
// costs the same for one record as for a hundred. It may pass the same record again, and it passes a replay at its original
// position. The file itself is in journal.go. operations.go has a second handler, which keeps another file in the same way.
package audit

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Module provides the handler of [New]; it needs a [Config].
var Module = fx.Module("audit", provide(New))

func provide(constructor any) fx.Option {
	return fx.Options(
		fx.Provide(fx.Annotate(constructor, fx.OnStart((*Audit).Start), fx.OnStop((*Audit).Close)), fx.Private),
		fx.Provide(fx.Annotate((*Audit).Handler, fx.ResultTags(`group:"handlers"`))),
	)
}

// Config says where the log is.
type Config struct {
	Path string
	// MaxSize is how many bytes the file has when it is rotated: it is renamed to its name with the number of its last line
	// behind it. 0 means never.
	MaxSize int64
}

// Audit appends to the log. It writes no record twice. A replay from the poison queue is a record that nobody has handled
// yet: Audit writes it after later ones and marks the line as replayed.
type Audit struct {
	journal *journal
	log     *slog.Logger
	entry   func(*events.Record) entry // returns the line of a record
	handler events.Handler             // without its functions
}

// New returns the handler audit. While its log cannot be used (a line in it is corrupt, the disk is full, or another process has
// it) every record fails and comes again. This holds up only this handler, and only until somebody mends the cause.
func New(c Config, log *slog.Logger) *Audit {
	return &Audit{
		journal: newJournal(c), log: log.With("handler", "audit"), entry: newMessageEntry,
		handler: events.Handler{
			Name: "audit", Topic: events.TopicMessages, Group: "audit-consumer-group", Gather: gather,
		},
	}
}

// gather makes batches large: each costs a sync of the file.
const gather = 250 * time.Millisecond

// Start opens the log, or logs why it cannot be used.
func (a *Audit) Start() {
	if err := a.journal.current(); err != nil {
		a.log.Error("the log cannot be used, records wait until it can", "error", err)
	}
}

// Handler returns what the router needs to know about the handler.
func (a *Audit) Handler() events.Handler {
	h := a.handler
	h.Handle, h.HandleBatch, h.Ready, h.Reopen = a.handle, a.handleBatch, a.journal.ready, a.journal.reopen
	return h
}

// handle handles a record that comes alone.
func (a *Audit) handle(ctx context.Context, r events.Record) error {
	return a.handleBatch(ctx, []events.Record{r})[0]
}

// handleBatch writes all the records with one write and one sync, so either all succeed or all fail. Those that were written
// are recognised when they come again.
func (a *Audit) handleBatch(_ context.Context, records []events.Record) []error {
	entries := make([]entry, len(records))
	for i := range records {
		entries[i] = a.entry(&records[i])
	}
	written, err := a.journal.append(entries)
	if err == nil {
		err = a.journal.sync(written)
	}
	return slices.Repeat([]error{err}, len(records))
}

// Close closes the log.
func (a *Audit) Close() error { return a.journal.close() }

// messageEntry is one line of the log.
type messageEntry struct {
	When         int64       `json:"when"` // Unix seconds
	Who          int64       `json:"who"`
	Type         events.Type `json:"type"`
	Conversation string      `json:"conversation"`
	MessageID    string      `json:"message_id,omitempty"`
	place
}

func newMessageEntry(r *events.Record) entry {
	e := &messageEntry{
		When: r.Timestamp, Who: r.By, Type: r.Type, Conversation: r.ConversationKey(), MessageID: r.MessageID, place: placeOf(r),
	}
	switch r.Type {
	case events.NewMessage:
		e.Who, e.MessageID = r.Message.From, r.Message.MessageID
	case events.MessageRead, events.ConversationSettings:
		e.Who = r.User
	}
	return e
}
