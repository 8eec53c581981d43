package events

import "slices"

// Epochs map the offsets of a topic's records to positions. When a topic is deleted and made anew, or a partition loses its
// end, Kafka gives the same offsets to other records. The records that come then belong to a new epoch, so that no position
// is ever given twice. A value is not changed once it is in use. Nil means that all records are in epoch 0.
type Epochs struct {
	// TopicID is the id that the brokers gave the topic when it was made.
	TopicID string
	// First is the epoch in which every partition of the topic began.
	First int64
	// Cuts lists the epochs that partitions have begun since. Each is higher than all before it in its partition.
	Cuts []Cut
	// Version counts the changes. Changed is the time of the last one in Unix milliseconds, by the clock of the process that
	// made it.
	Version, Changed int64
}

// Cut marks where a partition lost its end: the record at Offset and those after it were written after the loss.
type Cut struct {
	Partition int32
	Epoch     int64
	Offset    int64
}

// At returns the epoch of the record at the offset, which is the latest one that begins at or before it, and the offset of
// that epoch's first record.
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

// Next returns the offset of the first record, existing or yet to come, that lies after the position.
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

// Current returns the position right before the record at [Epochs.Next]. A consumer that is done up to the position passed in
// is also done up to the one returned, because what lay between was lost with the end of the partition or with the topic.
func (e *Epochs) Current(after Position) Position {
	p := e.Position(after.Partition, e.Next(after))
	p.Seq--
	return p
}

// Latest returns the highest epoch of the partition.
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
