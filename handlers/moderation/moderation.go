// Package moderation recalls messages. It recalls what rules have decided on when a message or an edit was accepted, which the
// record says in its header [events.RecallHeader], and what flood rules find too much when they compare a message with those
// before it. Nothing waits for moderation: a message is delivered and stored at once, and is recalled a moment later.
//
// A recall is a record of the conversation like any other: a message_recalled without `by`, and behind it a message_moderated
// that tells the sender why. Both are published with one call, and their ids follow from the message's, so that they are the
// same if the record comes again or is replayed; consumers skip the repeats. The id of the recall is also that of a recall
// by the author, so that whichever comes second has no effect.
package moderation

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/fx"

	"millrace/events"
)

// Module provides the handler; it needs an [Admission], [Floods] and a [Publisher].
var Module = fx.Module("moderation", fx.Provide(fx.Annotate(Handler, fx.ResultTags(`group:"handlers"`))))

// Name is the handler's name.
const Name = "moderation"

// timeout leaves floods the time to read what lies before a message.
const timeout = 30 * time.Second

// Admission knows what storage makes of records before they are stored. It is asked about changes of groups, recalls, and what
// is to be recalled.
type Admission interface {
	// Assigned is called when this process begins to read a partition. Its records come in order, beginning after the
	// position.
	Assigned(after events.Position)
	// Released is called when this process stops reading a partition.
	Released(partition int32)
	// Admits reports whether storage takes the record, which may come again.
	Admits(ctx context.Context, r *events.Record) bool
	// Stands reports whether the message of the record, a new message or an edit, is there and was not recalled.
	Stands(ctx context.Context, r *events.Record) bool
}

// Floods decides which messages are too many.
type Floods interface {
	// Judge returns the reason why the new message is one too many, or an empty string. The messages of a partition come in
	// order, and may come again.
	Judge(ctx context.Context, r *events.Record) (reason string, err error)
	// Forget is called when this process stops reading a partition.
	Forget(partition int32)
}

// Change is an event to publish, and the correlation id of the request that has caused it; see [events.CorrelationHeader].
type Change struct {
	events.Event
	Correlation string
}

// Publisher publishes changes on message-events.
type Publisher interface {
	// PublishChanges publishes the changes in their order, and returns how many of them, counted from the first, are there: all
	// if the error is nil.
	PublishChanges(ctx context.Context, all []Change) (int, error)
}

// Handler returns what the router needs to know about the handler.
func Handler(admission Admission, floods Floods, to Publisher) events.Handler {
	m := &moderator{admission: admission, floods: floods, to: to, begun: make(map[events.Position]bool)}
	return events.Handler{
		Name: Name, Topic: events.TopicMessages, Group: "moderation-consumer-group",
		Types: append(events.GroupChanges(), events.NewMessage, events.MessageEdited, events.MessageRecalled),
		Handle: func(ctx context.Context, r events.Record) error {
			return m.handle(ctx, []events.Record{r})[0]
		},
		HandleBatch: m.handle, Gather: 20 * time.Millisecond, Timeout: timeout, Assigned: admission.Assigned, Released: m.released,
	}
}

type moderator struct {
	admission Admission
	floods    Floods
	to        Publisher

	mu sync.Mutex
	// begun has the records of which it is not known how much was published. What they recall may be recalled already.
	begun map[events.Position]bool
}

func (m *moderator) released(partition int32) {
	m.mu.Lock()
	maps.DeleteFunc(m.begun, func(at events.Position, _ bool) bool { return at.Partition == partition })
	m.mu.Unlock()
	m.floods.Forget(partition)
	m.admission.Released(partition)
}

// handle publishes what the records of a batch need with one call. After a change that failed none behind it is published.
func (m *moderator) handle(ctx context.Context, records []events.Record) []error {
	errs := make([]error, len(records))
	var all []Change
	var of []int // the records that the changes belong to
	recalled := make(map[string]bool)
	for i := range records {
		reason, err := m.reason(ctx, &records[i])
		if err != nil {
			errs[i] = err
			continue
		}
		if reason == "" {
			continue
		}
		changes := recall(&records[i], reason)
		if id := changes[0].EventID; !recalled[id] {
			recalled[id] = true
			all, of = append(all, changes...), append(of, i, i)
		}
	}
	if len(all) == 0 {
		return errs
	}
	done, err := m.to.PublishChanges(ctx, all)
	for _, i := range of[:done] {
		m.note(records[i].Position, false)
	}
	if err == nil {
		return errs
	}
	for _, i := range of[done:] {
		m.note(records[i].Position, true)
		errs[i] = fmt.Errorf("publish a recall: %w", err)
	}
	return errs
}

// note notes whether something of the record may have been published, but not all.
func (m *moderator) note(at events.Position, begun bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if begun {
		m.begun[at] = true
	} else {
		delete(m.begun, at)
	}
}

func (m *moderator) hasBegun(at events.Position) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun[at]
}

// reason returns why the message of the record is to be recalled, or an empty string.
func (m *moderator) reason(ctx context.Context, r *events.Record) (reason string, err error) {
	switch r.Type {
	case events.NewMessage:
		if reason, err = m.floods.Judge(ctx, r); err != nil {
			return "", err
		}
	case events.MessageEdited:
	default:
		m.admission.Admits(ctx, r) // what storage makes of later records depends on it
		return "", nil
	}
	if decided := r.Header(events.RecallHeader); decided != "" {
		reason = decided
	}
	if reason == "" || !m.hasBegun(r.Position) && !m.admission.Stands(ctx, r) {
		return "", nil
	}
	if len(reason) > events.MaxReasonBytes || !utf8.ValidString(reason) {
		return "", events.Permanent(fmt.Errorf("header %s is not text of at most %d bytes", events.RecallHeader, events.MaxReasonBytes))
	}
	return reason, nil
}

// recall returns the changes that recall the message of the record and tell its sender why.
func recall(r *events.Record, reason string) []Change {
	id, seq, sender := r.MessageID, r.MessageSeq, r.By
	if r.Message != nil {
		id, seq, sender = r.Message.MessageID, r.Seq, r.Message.From
	}
	conversation, now := r.ConversationKey(), time.Now().Unix()
	correlation := r.Header(events.CorrelationHeader)
	return []Change{
		{events.Event{
			Type: events.MessageRecalled, EventID: events.EventID(events.MessageRecalled, conversation, id),
			Conversation: conversation, MessageID: id, MessageSeq: seq, Reason: reason, Timestamp: now,
		}, correlation},
		{events.Event{
			Type: events.MessageModerated, EventID: events.EventID(events.MessageModerated, conversation, id),
			Conversation: conversation, MessageID: id, MessageSeq: seq, User: sender, Reason: reason, Timestamp: now,
		}, correlation},
	}
}
