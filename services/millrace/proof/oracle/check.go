package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Rule is the rule that a violation breaks.
type Rule string

// The rules.
const (
	Lost       Rule = "lost"       // an acknowledged message is not in the history, or a member was not shown it
	Doubled    Rule = "doubled"    // a message is in the history or was shown twice
	Disordered Rule = "disordered" // a member saw another order than the history tells
	Overtaken  Rule = "overtaken"  // the history tells a sender's messages in another order than it sent them
	Misplaced  Rule = "misplaced"  // a client was pushed a position out of its turn
	Invented   Rule = "invented"   // a message or a change that nobody sent, that was rejected, or another one than was acknowledged
	Leaked     Rule = "leaked"     // a user was shown a message from before it joined or after it left
	Diverged   Rule = "diverged"   // a message ended differently for a member and in the history, or for two readers
)

// Violation is one broken promise.
type Violation struct {
	Rule         Rule
	Conversation string
	What         string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Rule, v.Conversation, v.What) }

// ByRule sorts violations by the rule that they break.
func ByRule(violations []Violation) map[Rule][]Violation {
	sorted := make(map[Rule][]Violation)
	for _, v := range violations {
		sorted[v.Rule] = append(sorted[v.Rule], v)
	}
	return sorted
}

// Check returns what was broken, in a stable order, or nothing if every promise was kept.
func (j *Journal) Check() []Violation {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Violation
	for _, name := range slices.Sorted(maps.Keys(j.conversations)) {
		c := j.conversations[name]
		c.nameRecalled()
		report := func(rule Rule, format string, args ...any) {
			found = append(found, Violation{rule, name, fmt.Sprintf(format, args...)})
		}
		c.checkHistory(report)
		stays := c.stays(report)
		for _, reader := range slices.Sorted(maps.Keys(stays)) {
			c.checkReader(reader, stays[reader], report)
		}
		from := len(found)
		c.checkChanges(stays, report)
		c.checkContents(report)
		c.checkTold(report)
		slices.SortFunc(found[from:], func(a, b Violation) int { return cmp.Compare(a.What, b.What) })
	}
	for _, what := range j.reports {
		found = append(found, Violation{Misplaced, "", what})
	}
	return found
}

// nameRecalled finds the senders of the recalled messages in the history, of which only the id is known. Only acknowledged
// messages can be recalled.
func (c *conversation) nameRecalled() {
	sends := make(map[string]Message)
	for user, acked := range c.acked {
		for clientMsgID, id := range acked {
			sends[id] = Message{From: user, ClientMsgID: clientMsgID}
		}
	}
	for i, m := range c.history {
		if m.Recalled {
			c.history[i].From, c.history[i].ClientMsgID = sends[m.ID].From, sends[m.ID].ClientMsgID
		}
	}
}

type report func(rule Rule, format string, args ...any)

// checkHistory compares the history at the end with what was sent and acknowledged.
func (c *conversation) checkHistory(report report) {
	for id, times := range ids(c.history) {
		if times > 1 {
			report(Doubled, "message %s is %d times in the history", id, times)
		}
	}
	place := make(map[send]int, len(c.history))
	for i, m := range c.history {
		key := send{m.From, m.ClientMsgID}
		if first, ok := place[key]; ok && c.history[first].ID != m.ID {
			report(Doubled, "%s of user %d became the messages %s and %s", m.ClientMsgID, m.From, c.history[first].ID, m.ID)
			continue
		}
		place[key] = i
		if i > 0 && m.Seq <= c.history[i-1].Seq {
			report(Disordered, "the history has seq %d after %d", m.Seq, c.history[i-1].Seq)
		}
	}
	sent := 0
	for _, user := range slices.Sorted(maps.Keys(c.sent)) {
		latest := -1
		for _, m := range c.sent[user] {
			clientMsgID := m.ClientMsgID
			i, stored := place[send{user, clientMsgID}]
			acked, wasAcked := c.acked[user][clientMsgID]
			switch {
			case !stored && wasAcked:
				report(Lost, "%s of user %d was acknowledged and is not in the history", clientMsgID, user)
			case stored && wasAcked && c.history[i].ID != acked:
				report(Invented, "%s of user %d was acknowledged as %s and is in the history as %s", clientMsgID, user, acked, c.history[i].ID)
			}
			if !stored {
				continue
			}
			sent++
			if i < latest {
				report(Overtaken, "%s of user %d comes before what it sent earlier", clientMsgID, user)
			}
			latest = max(latest, i)
		}
	}
	if extra := len(place) - sent; extra > 0 {
		report(Invented, "%d messages in the history were never sent", extra)
	}
}

// checkReader compares what a member has got with the part of the history that lies within its stays.
func (c *conversation) checkReader(reader int64, stays []stay, report report) {
	received := c.received[reader]
	for id, times := range ids(received) {
		if times > 1 {
			report(Doubled, "message %s was shown %d times to user %d", id, times, reader)
		}
	}
	place := make(map[string]int, len(c.history))
	for i, m := range c.history {
		place[m.ID] = i
	}
	latest := -1
	seen := make(map[string]bool, len(received))
	for _, m := range received {
		i, stored := place[m.ID]
		if !stored {
			report(Lost, "message %s was shown to user %d and is not in the history", m.ID, reader)
			continue
		}
		if i < latest && !seen[m.ID] && !m.Ahead {
			report(Disordered, "user %d was shown message %s after a later one", reader, m.ID)
		}
		if c.history[i].Seq != m.Seq {
			report(Disordered, "message %s has seq %d for user %d and %d in the history", m.ID, m.Seq, reader, c.history[i].Seq)
		}
		seen[m.ID] = true
		if !m.Ahead {
			latest = max(latest, i)
		}
	}
	for _, m := range c.history {
		for len(stays) > 0 && m.Seq >= stays[0].left {
			stays = stays[1:]
		}
		within := len(stays) > 0 && m.Seq > stays[0].joined
		switch {
		case !within && seen[m.ID]:
			report(Leaked, "message %s at %d was shown to user %d, who was no member then", m.ID, m.Seq, reader)
		case within && !seen[m.ID]:
			report(Lost, "message %s of user %d was never shown to user %d", m.ID, m.From, reader)
		}
	}
}
