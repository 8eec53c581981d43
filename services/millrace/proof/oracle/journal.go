// Package oracle decides by counting whether the promises held. Clients note in a [Journal] what they sent, what was
// acknowledged and what they were shown, while whatever may fail fails; at the end, when everybody has resumed and the
// history was read, [Journal.Check] lists every violation. It is linear in the number of entries.
package oracle

import "sync"

// Message is a message as somebody saw it.
type Message struct {
	ID          string
	ClientMsgID string
	From        int64
	Seq         int64
	Content     string
	Recalled    bool
	// Ahead tells that it was shown while older ones could not be had yet, so that its place among those shown says nothing.
	Ahead bool
}

// Journal collects what clients saw. Its methods are safe for concurrent use; entries of one client come in its order.
type Journal struct {
	mu            sync.Mutex
	conversations map[string]*conversation
	reports       []string
}

type conversation struct {
	members  []int64
	sent     map[int64][]string          // per sender the client_msg_ids in the order of sending
	acked    map[int64]map[string]string // per sender client_msg_id → message id
	received map[int64][]Message         // per reader, in the order of arrival
	history  []Message                   // ascending, as the server tells it in the end

	asked   map[Change]bool           // changes that somebody asked for, without positions
	agreed  []Change                  // those that were acknowledged
	changed map[int64][]Change        // per reader, in the order of arrival
	moves   map[int64]map[int64]*move // per user and position the times it joined or left, as anybody saw it
}

// New starts an empty journal.
func New() *Journal {
	return &Journal{conversations: map[string]*conversation{}}
}

// Members says who is in a conversation from its start. Who never leaves must see all of it.
func (j *Journal) Members(name string, members ...int64) {
	j.with(name, func(c *conversation) { c.members = members })
}

// Sent notes that the user is about to send, before its first attempt.
func (j *Journal) Sent(name string, user int64, clientMsgID string) {
	j.with(name, func(c *conversation) { c.sent[user] = append(c.sent[user], clientMsgID) })
}

// Acked notes that the server answered `sent`.
func (j *Journal) Acked(name string, user int64, clientMsgID, messageID string) {
	j.with(name, func(c *conversation) {
		if c.acked[user] == nil {
			c.acked[user] = map[string]string{}
		}
		c.acked[user][clientMsgID] = messageID
	})
}

// Reported notes what a client found wrong with a push by itself, such as a position that came twice on one connection.
func (j *Journal) Reported(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reports = append(j.reports, what)
}

// Shown notes a message that the reader's client showed.
func (j *Journal) Shown(name string, reader int64, m Message) {
	j.with(name, func(c *conversation) { c.received[reader] = append(c.received[reader], m) })
}

// Reloaded notes a whole history that the reader's client showed because it had missed too much: what it had not shown yet
// is shown by that, and what looks otherwise by then has changed.
func (j *Journal) Reloaded(name string, reader int64, messages []Message) {
	j.with(name, func(c *conversation) {
		received := ids(c.received[reader])
		for _, m := range messages {
			if received[m.ID] == 0 {
				c.received[reader] = append(c.received[reader], m)
			}
		}
		view := c.view(reader)
		for _, m := range messages {
			if now := m.state(); now != view[m.ID] {
				c.changed[reader] = append(c.changed[reader], now)
			}
		}
	})
}

// History notes the whole history of a conversation, ascending, as it is in the end.
func (j *Journal) History(name string, messages []Message) {
	j.with(name, func(c *conversation) { c.history = messages })
}

// AckedCount is how many sends were acknowledged so far.
func (j *Journal) AckedCount() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, c := range j.conversations {
		for _, ids := range c.acked {
			n += len(ids)
		}
	}
	return n
}

// Missing is how many acknowledged messages have not been shown yet to some member of the start.
func (j *Journal) Missing() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, c := range j.conversations {
		for _, reader := range c.members {
			n += c.ackedBut(c.received[reader])
		}
	}
	return n
}

// MissingIn is how many acknowledged messages of one conversation are not in its history, or have not been shown to some
// member of the start.
func (j *Journal) MissingIn(name string) (n int) {
	j.with(name, func(c *conversation) {
		n = c.ackedBut(c.history)
		for _, reader := range c.members {
			n += c.ackedBut(c.received[reader])
		}
	})
	return n
}

// Unstored is how many acknowledged messages are not in the history that was noted last.
func (j *Journal) Unstored() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, c := range j.conversations {
		n += c.ackedBut(c.history)
	}
	return n
}

// ackedBut counts the acknowledged messages that are not among these.
func (c *conversation) ackedBut(messages []Message) int {
	there := ids(messages)
	n := 0
	for _, acked := range c.acked {
		for _, id := range acked {
			if there[id] == 0 {
				n++
			}
		}
	}
	return n
}

func (j *Journal) with(name string, note func(*conversation)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.conversations[name]
	if c == nil {
		c = &conversation{
			sent: map[int64][]string{}, acked: map[int64]map[string]string{}, received: map[int64][]Message{},
			asked: map[Change]bool{}, changed: map[int64][]Change{}, moves: map[int64]map[int64]*move{},
		}
		j.conversations[name] = c
	}
	note(c)
}

// ids counts how often each message id occurs.
func ids(messages []Message) map[string]int {
	n := make(map[string]int, len(messages))
	for _, m := range messages {
		n[m.ID]++
	}
	return n
}
