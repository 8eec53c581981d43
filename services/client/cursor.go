package client

import (
	"fmt"
	"maps"

	"millrace/events"
)

// Cursor is what a client gives to its next connection: by partition, the seq of the latest push with a position. With nil
// nothing is replayed.
type Cursor map[int32]int64

// follow applies the protocol's rule to a push: a cursor from the server replaces the map, and a position moves its
// partition. It returns what is wrong with the push's position, if anything is. The cursor moves even then, because getting a
// message again does no harm and missing one does.
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
