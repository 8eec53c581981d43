package audit

import "millrace/events"

// known holds what the log contains, including the files before the current one: by partition the position of the last line
// in order, and the positions of the replayed lines.
type known struct {
	highest  map[int32]int64
	replayed map[events.Position]bool
}

func newKnown() known {
	return known{highest: make(map[int32]int64), replayed: make(map[events.Position]bool)}
}

func (k *known) has(e *entry) bool {
	if e.Replayed {
		return k.replayed[e.position()]
	}
	return e.Seq <= k.highest[e.Partition]
}

func (k *known) add(e *entry) {
	if e.Replayed {
		k.replayed[e.position()] = true
	} else {
		k.highest[e.Partition] = max(k.highest[e.Partition], e.Seq)
	}
}

func (e *entry) position() events.Position {
	return events.Position{Partition: e.Partition, Seq: e.Seq}
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
		k.add(&l.entry)
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
