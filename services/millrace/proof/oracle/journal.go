// Package oracle decides by counting whether the promises were kept. While anything may fail, clients note in a [Journal]
// what they have sent, what was acknowledged and what they have got. At the end, when everybody has resumed and the history
// was read, [Journal.Check] returns every violation. Its time is linear in the number of entries.
package oracle

import "sync"

// Message is a message as somebody saw it, or is about to send it.
type Message struct {
	ID          string
	ClientMsgID string
	From        int64
	Seq         int64
	Content     string
	Extra       string
	ReplyTo     string
	Mentions    string // the users, as fmt prints them
	Recalled    bool
	// Ahead says that it came while older ones were not available yet, so that its place among the others says nothing.
	Ahead bool
}

// Journal collects what clients saw. It is safe for concurrent use; the entries of one client come in its order.
type Journal struct {
	mu            sync.Mutex
	conversations map[string]*conversation
	reports       []string
}

type conversation struct {
	members  []int64
	sent     map[int64][]Message         // by sender, in the order of sending
	acked    map[int64]map[string]string // by sender, client_msg_id → message id
	rejected map[send]bool
	received map[int64][]Message // by reader, in the order of arrival
	history  []Message           // ascending, as the server returns it in the end

	asked   map[Change]bool           // changes that somebody asked for, without positions
	agreed  []Change                  // those that were acknowledged
	changed map[int64][]Change        // by reader, in the order of arrival
	told    map[told]int              // how often readers were told that moderation has recalled a message
	moves   map[int64]map[int64]*move // by user and position, the times it joined or left as anybody saw it
}

// send identifies a send, whatever came of it.
type send struct {
	user        int64
	clientMsgID string
}

// New returns an empty journal.
func New() *Journal {
	return &Journal{conversations: map[string]*conversation{}}
}

// Members sets who is in a conversation from its start. A member that never leaves must see all of it.
func (j *Journal) Members(name string, members ...int64) {
	j.with(name, func(c *conversation) { c.members = members })
}

// Sent notes that a user is about to send the message, which has no ID and no Seq yet. Its content is what has to be accepted:
// what rules make of it. Call it before the first attempt.
func (j *Journal) Sent(name string, m Message) {
	j.with(name, func(c *conversation) { c.sent[m.From] = append(c.sent[m.From], m) })
}

// Rejected notes that the server has refused the message for good: nobody may ever see it.
func (j *Journal) Rejected(name string, user int64, clientMsgID string) {
	j.with(name, func(c *conversation) { c.rejected[send{user, clientMsgID}] = true })
}

// Acked notes that the server has answered `sent`.
func (j *Journal) Acked(name string, user int64, clientMsgID, messageID string) {
	j.with(name, func(c *conversation) {
		if c.acked[user] == nil {
			c.acked[user] = map[string]string{}
		}
		c.acked[user][clientMsgID] = messageID
	})
}

// Reported notes what a client itself found wrong with a push, such as a position that came twice on one connection.
func (j *Journal) Reported(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reports = append(j.reports, what)
}

// Shown notes a message that the reader's client has shown.
func (j *Journal) Shown(name string, reader int64, m Message) {
	j.with(name, func(c *conversation) { c.received[reader] = append(c.received[reader], m) })
}

// Reloaded notes a whole history that the reader's client has loaded because it had missed too much. Messages that it had not
// got count as received, and those that look different by then as changed.
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

// AckedCount returns how many sends were acknowledged so far.
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

// Acknowledged returns the ids of all messages that were acknowledged so far.
func (j *Journal) Acknowledged() map[string]bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make(map[string]bool)
	for _, c := range j.conversations {
		for _, acked := range c.acked {
			for _, id := range acked {
				all[id] = true
			}
		}
	}
	return all
}

// RejectedCount returns how many messages were refused for good so far.
func (j *Journal) RejectedCount() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.conversations {
		n += len(c.rejected)
	}
	return n
}

// Missing returns how many acknowledged messages some member of the start has not got yet.
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

// MissingIn returns how many acknowledged messages of one conversation are not in its history, or some member of the start
// has not got.
func (j *Journal) MissingIn(name string) (n int) {
	j.with(name, func(c *conversation) {
		n = c.ackedBut(c.history)
		for _, reader := range c.members {
			n += c.ackedBut(c.received[reader])
		}
	})
	return n
}

// Unstored returns how many acknowledged messages are not in the history that was noted last.
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
			sent: map[int64][]Message{}, acked: map[int64]map[string]string{}, rejected: map[send]bool{}, received: map[int64][]Message{},
			asked: map[Change]bool{}, told: map[told]int{}, changed: map[int64][]Change{}, moves: map[int64]map[int64]*move{},
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
