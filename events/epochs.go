package events

import "slices"

// Epochs say which position a record of a topic has by its offset. A topic that was deleted and made anew begins in a new
// epoch, and so does a partition that has lost its end, there where it was cut: offsets are given a second time then,
// positions never. A value is not changed once it is in use; nil is epoch 0 from the first offset on.
type Epochs struct {
	// TopicID is the id that the brokers gave the topic when it was made.
	TopicID string
	// First is the epoch in which every partition of the topic begins.
	First int64
	// Cuts are the epochs that partitions have begun since, each higher than all before it in its partition.
	Cuts []Cut
	// Version counts the changes, and Changed is when the last was made, in Unix milliseconds by the clock of who made it.
	Version, Changed int64
}

// Cut is where a partition lost its end: the record at the offset and those behind it were written after that.
type Cut struct {
	Partition int32
	Epoch     int64
	Offset    int64
}

// At returns the epoch of the record at the offset, which is the latest of those that begin there or before, and the offset
// of that epoch's first record.
func (e *Epochs) At(partition int32, offset int64) (epoch, begin int64) {
	if e == nil {
		return 0, 0
	}
	for _, c := range slices.Backward(e.Cuts) {
		if c.Partition == partition && c.Offset <= offset {
			return c.Epoch, c.Offset
		}
	}
	return e.First, 0
}

// Position returns the position of the record at the offset.
func (e *Epochs) Position(partition int32, offset int64) Position {
	epoch, _ := e.At(partition, offset)
	return Position{Partition: partition, Seq: Seq(epoch, offset)}
}

// Next returns the offset of the first record, of those there are or will be, that lies after the position.
func (e *Epochs) Next(after Position) int64 {
	epoch := EpochOf(after.Seq)
	next := after.Seq - EpochStart(after.Seq)
	if e == nil {
		return next
	}
	if epoch < e.First {
		return 0
	}
	for _, c := range e.Cuts {
		if c.Partition == after.Partition && c.Epoch > epoch {
			next = min(next, c.Offset)
		}
	}
	return next
}

// Current returns the position right before the record at [Epochs.Next]. Whoever has done all up to the position given has
// done all up to the one returned: what lies between was lost with the end of the partition, or with the topic.
func (e *Epochs) Current(after Position) Position {
	p := e.Position(after.Partition, e.Next(after))
	p.Seq--
	return p
}

// Latest is the highest epoch of the partition.
func (e *Epochs) Latest(partition int32) int64 {
	if e == nil {
		return 0
	}
	latest := e.First
	for _, c := range e.Cuts {
		if c.Partition == partition {
			latest = max(latest, c.Epoch)
		}
	}
	return latest
}
