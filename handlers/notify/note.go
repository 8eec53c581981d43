package notify

import (
	"context"
	"slices"
	"time"

	"millrace/events"
)

const (
	// gather makes batches large: of a conversation's messages the store writes one row for each member.
	gather = 500 * time.Millisecond
	// notesAtOnce bounds a write, so that it holds up no other for long.
	notesAtOnce = 256
)

func (n *Notify) handle(ctx context.Context, r events.Record) error {
	return n.handleBatch(ctx, []events.Record{r})[0]
}

// handleBatch notes all messages or none. Those that were noted before an error count once when they come again.
func (n *Notify) handleBatch(ctx context.Context, records []events.Record) []error {
	return slices.Repeat([]error{n.note(ctx, records)}, len(records))
}

func (n *Notify) note(ctx context.Context, records []events.Record) error {
	members := make(map[int64][]int64)
	var notes []Note
	for i := range records {
		r := &records[i]
		if n.old(r.Message.Timestamp) {
			n.metrics.untold.WithLabelValues(reasonOld).Inc()
			continue
		}
		users, err := n.recipients(ctx, r.Message, members)
		if err != nil {
			return err
		}
		for _, user := range users {
			notes = append(notes, Note{
				User: user, Conversation: r.Message.Conversation, MessageID: r.Message.MessageID, Seq: r.Seq,
				From: r.Message.From, At: min(r.Message.Timestamp, n.now().Unix()),
			})
		}
	}
	notes, err := n.reachable(ctx, notes)
	if err != nil {
		return err
	}
	due := n.now().Add(n.Window)
	for some := range slices.Chunk(notes, notesAtOnce) {
		if err := n.store.NoteMessages(ctx, some, due); err != nil {
			return err
		}
	}
	return nil
}

// old reports whether nobody is told any more of a message of that time.
func (n *Notify) old(at int64) bool { return n.now().Sub(time.Unix(at, 0)) > n.MaxAge }

// recipients returns who may have to be told of the message. It adds what it learns to the members of groups.
func (n *Notify) recipients(ctx context.Context, m *events.Message, known map[int64][]int64) ([]int64, error) {
	if m.GroupID == 0 {
		if m.To == m.From {
			return nil, nil
		}
		return []int64{m.To}, nil
	}
	members, ok := known[m.GroupID]
	if !ok {
		var err error
		if members, err = n.store.Members(ctx, m.GroupID); err != nil {
			return nil, err
		}
		known[m.GroupID] = members
	}
	large := len(members) > n.GroupLimit
	if large {
		n.metrics.untold.WithLabelValues(reasonLargeGroup).Inc()
	}
	var users []int64
	for _, user := range members {
		if user != m.From && (!large || slices.Contains(m.Mentions, user)) {
			users = append(users, user)
		}
	}
	return users, nil
}

// reachable returns the notes of users who have a target.
func (n *Notify) reachable(ctx context.Context, notes []Note) ([]Note, error) {
	if len(n.endpoints) > 0 || len(notes) == 0 {
		return notes, nil
	}
	users := make([]int64, len(notes))
	for i := range notes {
		users[i] = notes[i].User
	}
	slices.Sort(users)
	browsers, err := n.store.Subscriptions(ctx, slices.Compact(users))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(notes, func(note Note) bool { return len(browsers[note.User]) == 0 }), nil
}
