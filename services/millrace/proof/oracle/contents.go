package oracle

import (
	"maps"
	"slices"
)

// checkContents compares every message that anybody has seen with what was sent and with the changes that somebody asked for.
func (c *conversation) checkContents(report report) {
	sent := make(map[send]Message)
	for user, messages := range c.sent {
		for _, m := range messages {
			sent[send{user, m.ClientMsgID}] = m
		}
	}
	check := func(where string, m Message) {
		was, known := sent[send{m.From, m.ClientMsgID}]
		switch {
		case m.Recalled || !known: // nothing can be seen of it, or the history tells that nobody has sent it
		case c.rejected[send{m.From, m.ClientMsgID}]:
			report(Invented, "%s of user %d was rejected and is %s", m.ClientMsgID, m.From, where)
		case m.ReplyTo != was.ReplyTo || m.Mentions != was.Mentions:
			report(Invented, "%s of user %d answers %q and mentions %s, and does %q and %s %s",
				m.ClientMsgID, m.From, was.ReplyTo, was.Mentions, m.ReplyTo, m.Mentions, where)
		case (m.Content != was.Content || m.Extra != was.Extra) && !c.asked[m.state()]:
			report(Invented, "%s of user %d has to be %q %s and is %q %s %s",
				m.ClientMsgID, m.From, was.Content, was.Extra, m.Content, m.Extra, where)
		}
	}
	for _, m := range c.history {
		check("in the history", m)
	}
	for _, reader := range slices.Sorted(maps.Keys(c.received)) {
		for _, m := range c.received[reader] {
			check("shown to others", m)
		}
	}
}
