package oracle

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const room = "u:1:2"

// good returns a journal in which everything went well: user 1 sends a, b and c, and c was never acknowledged.
func good() *Journal {
	j := New()
	j.Members(room, 1, 2)
	var history []Message
	for i, name := range []string{"a", "b", "c"} {
		m := Message{ID: "id-" + name, ClientMsgID: name, From: 1, Seq: int64(10 * (i + 1))}
		j.Sent(room, Message{From: 1, ClientMsgID: name})
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
	for reader := range c.received {
		c.received[reader] = c.received[reader][:2]
	}
	require.Empty(t, j.Check())
}

// A reader who was away while a message was changed twice gets it, at both positions, as it is by then.
func TestChangeShownToWhoeverResumesIsTheLatest(t *testing.T) {
	j := good()
	was, is := Change{MessageID: "id-a", Content: "was"}, Change{MessageID: "id-a", Content: "is"}
	j.Asked(room, was)
	j.Asked(room, is)
	j.Changed(room, 1, 40, was)
	j.Changed(room, 1, 50, is)
	j.Changed(room, 2, 40, is)
	j.Changed(room, 2, 50, is)
	j.conversations[room].history[0].Content = "is"
	require.Empty(t, j.Check())
	j.conversations[room].history[0].Content = "was"
	require.NotEmpty(t, j.Check())
}

// A reader who was told that something is missing sorts by seq.
func TestMessageShownAheadOfOlderOnesIsInOrder(t *testing.T) {
	j := good()
	received := j.conversations[room].received[2]
	received[0], received[2] = received[2], received[0]
	require.NotEmpty(t, j.Check())
	received[0].Ahead, received[1], received[2] = true, received[2], received[1]
	require.Empty(t, j.Check())
}

// If everybody was away, only the latest change reached anybody.
func TestChangeThatOnlyALaterOneWasShownOfIsNotLost(t *testing.T) {
	j := good()
	was, is := Change{MessageID: "id-a", Content: "was"}, Change{MessageID: "id-a", Content: "is"}
	for _, change := range []Change{was, is} {
		j.Asked(room, change)
		j.Agreed(room, change)
	}
	j.conversations[room].history[0].Content = "is"
	require.NotEmpty(t, j.Check())
	for _, reader := range []int64{1, 2} {
		j.Changed(room, reader, 40, is)
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
			c.received = map[int64][]Message{1: c.received[1][1:], 2: c.received[2][1:]}
		}},
		"stored, not shown to one": {Lost, func(_ *Journal, c *conversation) { c.received[2] = c.received[2][:2] }},
		"shown, not stored":        {Lost, func(_ *Journal, c *conversation) { c.history = c.history[:2] }},
		"shown to nobody":          {Lost, func(_ *Journal, c *conversation) { c.received = map[int64][]Message{} }},
		"shown twice": {Doubled, func(_ *Journal, c *conversation) {
			c.received[2] = append(c.received[2], c.received[2][0])
		}},
		"stored twice": {Doubled, func(_ *Journal, c *conversation) {
			c.history = append(c.history, Message{ID: "id-a", ClientMsgID: "a", From: 1, Seq: 40})
		}},
		"stored under two ids": {Doubled, func(_ *Journal, c *conversation) {
			c.history = append(c.history, Message{ID: "id-a2", ClientMsgID: "a", From: 1, Seq: 40})
		}},
		"pushed twice on a connection": {Misplaced, func(j *Journal, _ *conversation) { j.Reported("0:10 after 0:10") }},
		"shown in another order": {Disordered, func(_ *Journal, c *conversation) {
			c.received[2][0], c.received[2][1] = c.received[2][1], c.received[2][0]
		}},
		"shown with another seq": {Disordered, func(_ *Journal, c *conversation) { c.received[2][0].Seq++ }},
		"history does not ascend": {Disordered, func(_ *Journal, c *conversation) {
			c.history[1].Seq = 5
		}},
		"sender's order turned": {Overtaken, func(_ *Journal, c *conversation) {
			c.sent[1][0], c.sent[1][1] = c.sent[1][1], c.sent[1][0]
		}},
		"message nobody sent": {Invented, func(_ *Journal, c *conversation) {
			c.history = append(c.history, Message{ID: "id-x", ClientMsgID: "x", From: 2, Seq: 40})
		}},
		"message that was rejected, in the history": {Invented, func(j *Journal, _ *conversation) { j.Rejected(room, 1, "c") }},
		"message that was rejected, shown to one": {Invented, func(j *Journal, c *conversation) {
			j.Rejected(room, 1, "c")
			c.history, c.received[1] = c.history[:2], c.received[1][:2]
		}},
		"content that no rule has made": {Invented, func(_ *Journal, c *conversation) {
			c.history[0].Content, c.received[1][0].Content, c.received[2][0].Content = "x", "x", "x"
		}},
		"answer to another message":     {Invented, func(_ *Journal, c *conversation) { c.received[1][0].ReplyTo = "id-x" }},
		"mention of nobody":             {Invented, func(_ *Journal, c *conversation) { c.history[0].Mentions = "[7]" }},
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

// A reader who missed too much loads the history. Its messages count as received, and as changed at their positions.
func TestReloadedHistoryIsShown(t *testing.T) {
	j := good()
	c := j.conversations[room]
	edited, recalled := Change{MessageID: "id-a", Content: "is"}, Change{MessageID: "id-b", Recalled: true}
	j.Asked(room, edited)
	j.Asked(room, recalled)
	j.Changed(room, 1, 40, edited)
	j.Changed(room, 1, 50, recalled)
	c.history[0].Content, c.history[1].Recalled = "is", true
	c.received[2] = c.received[2][:1]
	require.NotEmpty(t, j.Check())
	j.Reloaded(room, 2, c.history)
	require.Empty(t, j.Check())
	j.Reloaded(room, 2, c.history)
	require.Empty(t, j.Check(), "a second time nothing is new")
	j.Reloaded(room, 2, []Message{{ID: "id-a", Seq: 10, Content: "was"}})
	require.NotEmpty(t, j.Check())
}

// A change may come before the message that it changes.
func TestReloadedHistoryIsNewerThanWhatWasShownBefore(t *testing.T) {
	j := good()
	c := j.conversations[room]
	was, is := Change{MessageID: "id-c", Content: "was"}, Change{MessageID: "id-c", Content: "is"}
	for _, change := range []Change{was, is} {
		j.Asked(room, change)
		j.Changed(room, 1, 40, change)
	}
	j.conversations[room].changed[1][1].pos = 50
	c.history[2].Content = "is"
	c.received[2] = c.received[2][:2]
	j.Changed(room, 2, 0, was)
	j.Reloaded(room, 2, c.history)
	require.Empty(t, j.Check())
}

// changing returns a journal in which everything went well: user 3 joins at 15 and leaves at 35, message a is edited twice, b
// is recalled, and c is edited after user 3 has left.
func changing() *Journal {
	j := good()
	a := Change{MessageID: "id-a", Content: "a1"}
	for _, change := range []Change{a, {MessageID: "id-a", Content: "a2"}, {MessageID: "id-b", Recalled: true}, {MessageID: "id-c", Content: "c1"}} {
		j.Asked(room, change)
		j.Agreed(room, change)
	}
	for _, reader := range []int64{1, 2} {
		j.Joined(room, 15, 3)
		j.Changed(room, reader, 21, a)
		j.Changed(room, reader, 22, Change{MessageID: "id-a", Content: "a2"})
		j.Changed(room, reader, 31, Change{MessageID: "id-b", Recalled: true})
		j.Left(room, 35, 3)
		j.Changed(room, reader, 40, Change{MessageID: "id-c", Content: "c1"})
	}
	c := j.conversations[room]
	for _, m := range c.history[1:] {
		j.Shown(room, 3, m)
	}
	j.Changed(room, 3, 31, Change{MessageID: "id-b", Recalled: true})
	c.history[0].Content, c.history[1].Recalled, c.history[2].Content = "a2", true, "c1"
	return j
}

func TestJournalWithChangesAndGuestsThatHeldHasNoViolations(t *testing.T) {
	require.Empty(t, changing().Check())
}

func TestWhoComesBackHearsNothingOfWhatWasSaidInAnEarlierStay(t *testing.T) {
	j := changing()
	again := Change{MessageID: "id-b", Content: "b1"}
	j.Asked(room, again)
	j.Joined(room, 45, 3)
	j.Changed(room, 1, 50, again)
	j.Changed(room, 2, 50, again)
	c := j.conversations[room]
	c.history[1].Content, c.history[1].Recalled = "b1", false
	require.Empty(t, j.Check())
}

func TestRepeatedJoinsAndLeavesChangeNothing(t *testing.T) {
	j := changing()
	j.Joined(room, 25, 3)
	j.Left(room, 36, 3)
	require.Empty(t, j.Check())
}

func TestPushWithoutPositionIsPlacedByThoseThatHadOne(t *testing.T) {
	j := changing()
	c := j.conversations[room]
	for i := range c.changed[2] {
		c.changed[2][i].pos = 0
	}
	j.Left(room, 0, 3)
	require.Empty(t, j.Check())
}

func TestRecalledMessageNeedsNoSenderInTheHistory(t *testing.T) {
	j := changing()
	c := j.conversations[room]
	c.history[1] = Message{ID: "id-b", Seq: 20, Recalled: true}
	require.Empty(t, j.Check())
}

func TestReaderThatComesBackIsShownWhatAMessageBecame(t *testing.T) {
	j := changing()
	c := j.conversations[room]
	c.received[2][0].Content = "a2"
	c.changed[2] = c.changed[2][2:]
	require.Empty(t, j.Check())
}

func TestBrokenJournalWithChangesAndGuestsIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		rule   Rule
		damage func(j *Journal, c *conversation)
	}{
		"shown from before joining": {Leaked, func(_ *Journal, c *conversation) { c.received[3] = append(c.history[:1:1], c.received[3]...) }},
		"shown from after leaving":  {Leaked, func(_ *Journal, c *conversation) { c.moves[3] = map[int64]*move{15: {joined: true}, 25: {}} }},
		"told of an edit of what was said before joining": {Leaked, func(j *Journal, _ *conversation) {
			j.Changed(room, 3, 22, Change{MessageID: "id-a", Content: "a2"})
		}},
		"told of an edit after leaving": {Leaked, func(j *Journal, _ *conversation) {
			j.Changed(room, 3, 40, Change{MessageID: "id-c", Content: "c1"})
		}},
		"not shown after joining":         {Lost, func(_ *Journal, c *conversation) { c.received[3] = c.received[3][1:] }},
		"not shown before leaving":        {Lost, func(_ *Journal, c *conversation) { c.received[3] = c.received[3][:1] }},
		"joined and left at one position": {Diverged, func(j *Journal, _ *conversation) { j.Left(room, 15, 3) }},
		"edit missed by one":              {Diverged, func(_ *Journal, c *conversation) { c.changed[2] = c.changed[2][:3] }},
		"recall missed by a guest":        {Diverged, func(_ *Journal, c *conversation) { c.changed[3] = nil }},
		"edits applied in another order":  {Diverged, func(_ *Journal, c *conversation) { c.changed[2][0], c.changed[2][1] = c.changed[2][1], c.changed[2][0] }},
		"history keeps an older edit":     {Diverged, func(_ *Journal, c *conversation) { c.history[0].Content = "a1" }},
		"history keeps older extra":       {Diverged, func(_ *Journal, c *conversation) { c.history[0].Extra = "{}" }},
		"extra that nobody sent":          {Diverged, func(_ *Journal, c *conversation) { c.received[1][2].Extra, c.changed = "{}", nil }},
		"history forgets a recall":        {Diverged, func(_ *Journal, c *conversation) { c.history[1].Recalled = false }},
		"edit acknowledged, seen nowhere": {Lost, func(j *Journal, _ *conversation) { j.Agreed(room, Change{MessageID: "id-c", Content: "c2"}) }},
		"edit that nobody asked for":      {Invented, func(j *Journal, _ *conversation) { j.Changed(room, 1, 50, Change{MessageID: "id-c", Content: "x"}) }},
		"content that nobody wrote":       {Diverged, func(_ *Journal, c *conversation) { c.received[1][2].Content, c.changed = "x", nil }},
	} {
		t.Run(name, func(t *testing.T) {
			j := changing()
			test.damage(j, j.conversations[room])
			var rules []Rule
			for _, v := range j.Check() {
				rules = append(rules, v.Rule)
			}
			require.Contains(t, rules, test.rule)
		})
	}
}

func TestSenderAloneIsToldOnceOfWhatIsModerated(t *testing.T) {
	for name, test := range map[string]struct {
		rule   Rule // empty: all is well
		damage func(j *Journal, c *conversation)
	}{
		"told":               {"", func(*Journal, *conversation) {}},
		"told twice":         {Doubled, func(j *Journal, _ *conversation) { j.Told(room, 1, "id-b") }},
		"another is told":    {Leaked, func(j *Journal, _ *conversation) { j.Told(room, 2, "id-b") }},
		"told of no message": {Leaked, func(j *Journal, _ *conversation) { j.Told(room, 1, "id-x") }},
		"told for no reason": {Invented, func(j *Journal, _ *conversation) { j.Told(room, 1, "id-a") }},
		"told and not recalled": {Lost, func(j *Journal, _ *conversation) {
			j.Asked(room, Change{MessageID: "id-a", Recalled: true})
			j.Told(room, 1, "id-a")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			j := changing()
			j.Told(room, 1, "id-b")
			require.Equal(t, 1, j.ToldCount())
			test.damage(j, j.conversations[room])
			var rules []Rule
			for _, v := range j.Check() {
				rules = append(rules, v.Rule)
			}
			if test.rule == "" {
				require.Empty(t, rules)
			} else {
				require.Equal(t, []Rule{test.rule}, rules)
			}
		})
	}
}

func TestMessageThatWasRejectedIsNowhere(t *testing.T) {
	j := good()
	j.Sent(room, Message{From: 1, ClientMsgID: "d", Content: "forbidden"})
	j.Rejected(room, 1, "d")
	require.Empty(t, j.Check())
	require.Equal(t, 1, j.RejectedCount())
	require.Equal(t, map[string]bool{"id-a": true, "id-b": true}, j.Acknowledged())
}

func TestMissingCountsWhatMembersHaveYetToSee(t *testing.T) {
	j := good()
	j.Acked(room, 1, "c", "id-c")
	j.conversations[room].received[2] = nil
	require.Equal(t, 3, j.Missing())
}

func TestUnstoredCountsWhatTheHistoryHasYetToTell(t *testing.T) {
	j := good()
	require.Zero(t, j.Unstored())
	j.History(room, nil)
	require.Equal(t, 2, j.Unstored())
}
