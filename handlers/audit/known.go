package audit

import "millrace/events"

// entry is what a line says, but for what chains it to the line before.
type entry interface{ at() *place }

// place is the part of a line that says which record it is about. Every line has one.
type place struct {
	Partition int32 `json:"partition"`
	Seq       int64 `json:"seq"`
	// Replayed marks a line that stands behind later ones, because its record was in the poison queue first.
	Replayed bool `json:"replayed,omitempty"`
}

func placeOf(r *events.Record) place {
	return place{Partition: r.Partition, Seq: r.Seq, Replayed: r.Replay}
}

func (p *place) at() *place { return p }

func (p *place) position() events.Position {
	return events.Position{Partition: p.Partition, Seq: p.Seq}
}

// known holds what the log contains, including the files before the current one: by partition the position of the last line
// in order, and the positions of the replayed lines.
type known struct {
	highest  map[int32]int64
	replayed map[events.Position]bool
}

func newKnown() known {
	return known{highest: make(map[int32]int64), replayed: make(map[events.Position]bool)}
}

func (k *known) has(p *place) bool {
	if p.Replayed {
		return k.replayed[p.position()]
	}
	return p.Seq <= k.highest[p.Partition]
}

func (k *known) add(p *place) {
	if p.Replayed {
		k.replayed[p.position()] = true
	} else {
		k.highest[p.Partition] = max(k.highest[p.Partition], p.Seq)
	}
}

// continuation is the first line of a file that continues another. With it the file says by itself what the log contains, so
// that nobody needs to read the files before, which may be gone.
type continuation struct {
	Continues string          `json:"continues"` // the hash of the last line of the file before
	Highest   map[int32]int64 `json:"highest"`
	Replays   []string        `json:"replays,omitempty"` // the positions of replayed lines
}

func (k *known) continuation(end chain) continuation {
	c := continuation{Continues: end.hash, Highest: k.highest}
	for at := range k.replayed {
		c.Replays = append(c.Replays, at.String())
	}
	return c
}

func (k *known) addLine(l *line) error {
	if l.Continues == "" {
		k.add(&l.place)
		return nil
	}
	for partition, seq := range l.Highest {
		k.highest[partition] = max(k.highest[partition], seq)
	}
	for _, replay := range l.Replays {
		at, err := events.ParsePosition(replay)
		if err != nil {
			return err
		}
		k.replayed[at] = true
	}
	return nil
}
