package events

import (
	"fmt"
	"strconv"
	"strings"
)

const epochBits = 40

// Position is a place in the log. Seq is epoch·2^40 + offset + 1, so 0 lies before every record. The epoch rises when the
// topic is made anew or the partition loses its end (see [Epochs]), so no position is given twice. Seq orders the records of
// a partition; it has gaps.
type Position struct {
	Partition int32
	Seq       int64
}

// Seq returns the sequence number of the record at the offset in the epoch.
func Seq(epoch, offset int64) int64 { return epoch<<epochBits + offset + 1 }

// EpochOf returns the epoch of the sequence number.
func EpochOf(seq int64) int64 { return seq >> epochBits }

// Offset returns the offset of the record with the sequence number, or -1 if it lies before the first record of its epoch.
func Offset(seq int64) int64 { return seq - EpochStart(seq) - 1 }

// String returns the form that clients see: "partition:seq".
func (p Position) String() string { return string(p.appendTo(nil)) }

func (p Position) appendTo(text []byte) []byte {
	text = strconv.AppendInt(text, int64(p.Partition), 10)
	return strconv.AppendInt(append(text, ':'), p.Seq, 10)
}

// ParsePosition reads the form that [Position.String] writes.
func ParsePosition(s string) (Position, error) {
	partition, seq, ok := strings.Cut(s, ":")
	if !ok {
		return Position{}, fmt.Errorf("position %q: want partition:seq", s)
	}
	p, err := strconv.ParseInt(partition, 10, 32)
	if err != nil || p < 0 {
		return Position{}, fmt.Errorf("position %q: bad partition", s)
	}
	n, err := strconv.ParseInt(seq, 10, 64)
	if err != nil || n < 0 || n > MaxID {
		return Position{}, fmt.Errorf("position %q: bad seq", s)
	}
	return Position{Partition: int32(p), Seq: n}, nil
}

// Range is a part of a partition: the positions after After, up to and including Through.
type Range struct {
	Partition      int32
	After, Through int64
}

// EpochStart returns the position before the first record of the epoch that seq lies in.
func EpochStart(seq int64) int64 { return seq >> epochBits << epochBits }

// Len returns an upper bound of the number of records in the range.
func (r Range) Len() int64 { return max(0, r.Through-max(r.After, EpochStart(r.Through))) }
