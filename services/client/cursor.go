package client

import (
	"fmt"
	"maps"

	"millrace/events"
)

// Cursor is what a client gives to its next connection: per partition the seq of the latest push that had a position.
// nil means none: nothing is replayed.
type Cursor map[int32]int64

// follow applies the protocol's rule to a push: a cursor that the server hands replaces the map, a position moves its
// partition. It says what is wrong with the push's place, if anything is; the cursor then moves all the same, because to
// be sent a message again is harmless and to skip one is not.
func (c *Cursor) follow(p *Push) (violation string) {
	if p.Cursor != nil {
		*c = maps.Clone(p.Cursor)
	}
	if p.Pos == "" {
		return ""
	}
	pos, err := events.ParsePosition(p.Pos)
	if err != nil {
		return err.Error()
	}
	if had, ok := (*c)[pos.Partition]; ok && pos.Seq <= had {
		violation = fmt.Sprintf("%s at %s pushed after %d:%d", p.Type, p.Pos, pos.Partition, had)
	} else if p.Type == events.NewMessage && p.Seq != pos.Seq {
		violation = fmt.Sprintf("%s at %s has seq %d", p.Type, p.Pos, p.Seq)
	}
	if *c == nil {
		*c = Cursor{}
	}
	(*c)[pos.Partition] = pos.Seq
	return violation
}
