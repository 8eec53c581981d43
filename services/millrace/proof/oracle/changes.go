package oracle

import "slices"

// Change is an edit or a recall of a message.
type Change struct {
	MessageID string
	Content   string
	Extra     string
	Recalled  bool
	pos       int64
}

// Asked notes that somebody is about to ask for the change. Call it before the first attempt.
func (j *Journal) Asked(name string, change Change) {
	j.with(name, func(c *conversation) { c.asked[change] = true })
}

// Agreed notes that the server has acknowledged the change.
func (j *Journal) Agreed(name string, change Change) {
	j.with(name, func(c *conversation) { c.agreed = append(c.agreed, change) })
}

// Changed notes a change that the reader's client has shown, with its position; 0 if the push had none, as while a resume is
// incomplete. Somebody else has seen the position then.
func (j *Journal) Changed(name string, reader, pos int64, change Change) {
	change.pos = pos
	j.with(name, func(c *conversation) { c.changed[reader] = append(c.changed[reader], change) })
}

// AgreedCount returns how many changes were acknowledged so far.
func (j *Journal) AgreedCount() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, c := range j.conversations {
		n += len(c.agreed)
	}
	return n
}

// bare returns the change without its position.
func (c Change) bare() Change {
	c.pos = 0
	return c
}

// checkChanges compares how messages ended, in the history and for each reader that was a member from before they were sent
// until after their last change, with the last change that anybody saw. A reader that resumes gets the message as it is by
// then at each of its changes' positions, so of a change that was seen at several positions the last counts.
func (c *conversation) checkChanges(stays map[int64][]stay, report report) {
	latest := map[Change]int64{}
	for _, changes := range c.changed {
		for _, change := range changes {
			latest[change.bare()] = max(latest[change.bare()], change.pos)
		}
	}
	superseded := map[string]bool{}
	for _, change := range slices.Backward(c.agreed) {
		if _, ok := latest[change]; ok {
			superseded[change.MessageID] = true
		} else if !superseded[change.MessageID] {
			report(Lost, "a change of message %s was acknowledged and nobody was shown it or a later one", change.MessageID)
		}
	}
	last := map[string]Change{}
	for change, pos := range latest {
		if !c.asked[change] {
			report(Invented, "nobody asked for a change of message %s at %d", change.MessageID, pos)
		}
		if change.pos = pos; pos > last[change.MessageID].pos {
			last[change.MessageID] = change
		}
	}
	for _, m := range c.history {
		change, ok := last[m.ID]
		if ok && m.state() != change.bare() {
			report(Diverged, "message %s at %d, changed last at %d to %q %s, is in the history as %q %s; changes in the order shown: %v",
				m.ID, m.Seq, change.pos, change.Content, change.Extra, m.Content, m.Extra, c.changesOf(m.ID))
		}
	}
	seqs := make(map[string]int64, len(c.history))
	for _, m := range c.history {
		seqs[m.ID] = m.Seq
	}
	for reader, stays := range stays {
		for _, change := range c.changed[reader] {
			if seq, stored := seqs[change.MessageID]; stored && change.pos != 0 && !together(stays, seq, change.pos) {
				report(Leaked, "user %d was told at %d of a change of message %s at %d, from outside its stay",
					reader, change.pos, change.MessageID, seq)
			}
		}
		for id, ended := range c.view(reader) {
			change, ok := last[id]
			if ok && together(stays, seqs[id], change.pos) && ended != change.bare() {
				report(Diverged, "message %s ended for user %d otherwise than it was changed at %d", id, reader, change.pos)
			}
		}
	}
	c.checkUnchanged(last, report)
}

// view returns how the messages of the reader look to it in the end.
func (c *conversation) view(reader int64) map[string]Change {
	view := make(map[string]Change, len(c.received[reader]))
	for _, m := range c.received[reader] {
		view[m.ID] = m.state()
	}
	for _, change := range c.changed[reader] {
		if _, ok := view[change.MessageID]; ok {
			view[change.MessageID] = change.bare()
		}
	}
	return view
}

// state returns how the message looks, as the change that made it so.
func (m Message) state() Change {
	if m.Recalled {
		return Change{MessageID: m.ID, Recalled: true}
	}
	return Change{MessageID: m.ID, Content: m.Content, Extra: m.Extra}
}

// changesOf returns the positions of a message's changes, as the reader saw them that saw most of them.
func (c *conversation) changesOf(id string) (most []int64) {
	for _, changes := range c.changed {
		var positions []int64
		for _, change := range changes {
			if change.MessageID == id {
				positions = append(positions, change.pos)
			}
		}
		if len(positions) > len(most) {
			most = positions
		}
	}
	return most
}

// checkUnchanged checks that messages which nobody changed have one content.
func (c *conversation) checkUnchanged(last map[string]Change, report report) {
	history := make(map[string]Message, len(c.history))
	for _, m := range c.history {
		history[m.ID] = m
	}
	for reader, received := range c.received {
		for _, m := range received {
			_, changed := last[m.ID]
			kept, stored := history[m.ID]
			if stored && !changed && m.state() != kept.state() {
				report(Diverged, "message %s is another for user %d than in the history", m.ID, reader)
			}
		}
	}
}
