package oracle

// told is who was told that moderation has recalled a message.
type told struct {
	reader    int64
	messageID string
}

// Told notes that the reader's client was told that moderation has recalled a message.
func (j *Journal) Told(name string, reader int64, messageID string) {
	j.with(name, func(c *conversation) { c.told[told{reader, messageID}]++ })
}

// ToldCount returns of how many recalls by moderation somebody was told so far.
func (j *Journal) ToldCount() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.conversations {
		n += len(c.told)
	}
	return n
}

// checkTold checks that only the sender of a message was told that moderation has recalled it, once, and that it is recalled.
func (c *conversation) checkTold(report report) {
	senders := make(map[string]int64)
	for user, acked := range c.acked {
		for _, id := range acked {
			senders[id] = user
		}
	}
	recalled := make(map[string]bool)
	for _, m := range c.history {
		recalled[m.ID] = m.Recalled
	}
	for t, times := range c.told {
		switch {
		case senders[t.messageID] != t.reader:
			report(Leaked, "user %d was told that message %s of user %d was moderated", t.reader, t.messageID, senders[t.messageID])
		case times > 1:
			report(Doubled, "user %d was told %d times that message %s was moderated", t.reader, times, t.messageID)
		case !c.asked[Change{MessageID: t.messageID, Recalled: true}]:
			report(Invented, "user %d was told that message %s was moderated, though no rule says so", t.reader, t.messageID)
		case !recalled[t.messageID]:
			report(Lost, "user %d was told that message %s was moderated, and it is not recalled", t.reader, t.messageID)
		}
	}
}
