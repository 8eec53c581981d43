package oracle

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const room = "u:1:2"

// good is a journal in which everything went well: user 1 sends a, b and c, and c was never acknowledged.
func good() *Journal {
	j := New()
	j.Members(room, 1, 2)
	var history []Message
	for i, name := range []string{"a", "b", "c"} {
		m := Message{ID: "id-" + name, ClientMsgID: name, From: 1, Seq: int64(10 * (i + 1))}
		j.Sent(room, 1, name)
		if name != "c" {
			j.Acked(room, 1, name, m.ID)
		}
		for _, reader := range []int64{1, 2} {
			j.Shown(room, reader, m)
		}
		history = append(history, m)
	}
	j.History(room, history)
	return j
}

func TestJournalInWhichEverythingHeldHasNoViolations(t *testing.T) {
	j := good()
	require.Empty(t, j.Check())
	require.Zero(t, j.Missing())
	require.Equal(t, 2, j.AckedCount())
}

func TestUnacknowledgedSendMayBeMissing(t *testing.T) {
	j := good()
	c := j.conversations[room]
	c.history = c.history[:2]
	for reader := range c.shown {
		c.shown[reader] = c.shown[reader][:2]
	}
	require.Empty(t, j.Check())
}

func TestBrokenJournalIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		rule   Rule
		damage func(j *Journal, c *conversation)
	}{
		"acknowledged, not stored": {Lost, func(_ *Journal, c *conversation) {
			c.history = c.history[1:]
			c.shown = map[int64][]Message{1: c.shown[1][1:], 2: c.shown[2][1:]}
		}},
		"stored, not shown to one": {Lost, func(_ *Journal, c *conversation) { c.shown[2] = c.shown[2][:2] }},
		"shown, not stored":        {Lost, func(_ *Journal, c *conversation) { c.history = c.history[:2] }},
		"shown to nobody":          {Lost, func(_ *Journal, c *conversation) { c.shown = map[int64][]Message{} }},
		"shown twice": {Doubled, func(_ *Journal, c *conversation) {
			c.shown[2] = append(c.shown[2], c.shown[2][0])
		}},
		"stored twice": {Doubled, func(_ *Journal, c *conversation) {
			c.history = append(c.history, Message{ID: "id-a", ClientMsgID: "a", From: 1, Seq: 40})
		}},
		"stored under two ids": {Doubled, func(_ *Journal, c *conversation) {
			c.history = append(c.history, Message{ID: "id-a2", ClientMsgID: "a", From: 1, Seq: 40})
		}},
		"pushed twice on a connection": {Misplaced, func(j *Journal, _ *conversation) { j.Reported("0:10 after 0:10") }},
		"shown in another order": {Disordered, func(_ *Journal, c *conversation) {
			c.shown[2][0], c.shown[2][1] = c.shown[2][1], c.shown[2][0]
		}},
		"shown with another seq": {Disordered, func(_ *Journal, c *conversation) { c.shown[2][0].Seq++ }},
		"history does not ascend": {Disordered, func(_ *Journal, c *conversation) {
			c.history[1].Seq = 5
		}},
		"sender's order turned": {Overtaken, func(_ *Journal, c *conversation) {
			c.sent[1] = []string{"b", "a", "c"}
		}},
		"message nobody sent": {Invented, func(_ *Journal, c *conversation) {
			c.history = append(c.history, Message{ID: "id-x", ClientMsgID: "x", From: 2, Seq: 40})
		}},
		"acknowledged under another id": {Invented, func(_ *Journal, c *conversation) { c.acked[1]["a"] = "id-z" }},
	} {
		t.Run(name, func(t *testing.T) {
			j := good()
			test.damage(j, j.conversations[room])
			var rules []Rule
			for _, v := range j.Check() {
				rules = append(rules, v.Rule)
			}
			require.Contains(t, rules, test.rule)
		})
	}
}

func TestMissingCountsWhatMembersHaveYetToSee(t *testing.T) {
	j := good()
	j.Acked(room, 1, "c", "id-c")
	j.conversations[room].shown[2] = nil
	require.Equal(t, 3, j.Missing())
}

func TestUnstoredCountsWhatTheHistoryHasYetToTell(t *testing.T) {
	j := good()
	require.Zero(t, j.Unstored())
	j.History(room, nil)
	require.Equal(t, 2, j.Unstored())
}
