package oracle

import (
	"maps"
	"math"
	"slices"
)

// move is a change of somebody's membership. It is contested if readers saw both a join and a leave at its position.
type move struct {
	joined    bool
	contested bool
}

// stay is a time in a conversation: the member sees what lies between the positions.
type stay struct{ joined, left int64 }

// Joined notes that a client was told that the user joined at the position. Without a position it has no effect.
func (j *Journal) Joined(name string, pos, user int64) { j.moved(name, pos, user, true) }

// Left notes that a client was told that the user left at the position.
func (j *Journal) Left(name string, pos, user int64) { j.moved(name, pos, user, false) }

func (j *Journal) moved(name string, pos, user int64, joined bool) {
	if pos == 0 {
		return
	}
	j.with(name, func(c *conversation) {
		if c.moves[user] == nil {
			c.moves[user] = map[int64]*move{}
		}
		m := c.moves[user][pos]
		if m == nil {
			c.moves[user][pos] = &move{joined: joined}
			return
		}
		m.contested = m.contested || m.joined != joined
	})
}

// stays returns everybody's stays in the conversation, in order, by everything that anybody saw of them. A repeated join or
// leave changes nothing, as for the server.
func (c *conversation) stays(report report) map[int64][]stay {
	stays := make(map[int64][]stay, len(c.members))
	for _, user := range c.members {
		stays[user] = []stay{{left: math.MaxInt64}}
	}
	for _, user := range slices.Sorted(maps.Keys(c.moves)) {
		for _, pos := range slices.Sorted(maps.Keys(c.moves[user])) {
			m, last := c.moves[user][pos], len(stays[user])-1
			inside := last >= 0 && stays[user][last].left == math.MaxInt64
			switch {
			case m.contested:
				report(Diverged, "user %d is said to have joined and to have left at %d", user, pos)
			case m.joined && !inside:
				stays[user] = append(stays[user], stay{joined: pos, left: math.MaxInt64})
			case !m.joined && inside:
				stays[user][last].left = pos
			}
		}
	}
	return stays
}

// together reports whether one of the stays contains both positions.
func together(stays []stay, message, change int64) bool {
	return slices.ContainsFunc(stays, func(s stay) bool { return s.joined < message && change < s.left })
}
