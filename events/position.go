package events

import (
	"fmt"
	"strconv"
	"strings"
)

const epochBits = 40

// Position is a place in the log. Seq is epoch·2^40 + offset + 1, so 0 lies before every record; the epoch rises when the
// topic is made anew or the partition loses its end (see [Epochs]), so a position is never given twice. Within a partition
// Seq orders everything, and it is sparse.
type Position struct {
	Partition int32
	Seq       int64
}

// Seq is the sequence number of the record at the offset.
func Seq(epoch, offset int64) int64 { return epoch<<epochBits + offset + 1 }

// EpochOf is the epoch of the sequence number.
func EpochOf(seq int64) int64 { return seq >> epochBits }

// Offset is the offset of the record with the sequence number, -1 before the first record of an epoch.
func Offset(seq int64) int64 { return seq - EpochStart(seq) - 1 }

// String is the form clients see: "partition:seq".
func (p Position) String() string {
	return strconv.FormatInt(int64(p.Partition), 10) + ":" + strconv.FormatInt(p.Seq, 10)
}

// ParsePosition reads what [Position.String] wrote.
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

// Range is the part (After, Through] of a partition.
type Range struct {
	Partition      int32
	After, Through int64
}

// EpochStart is the position before the first record of the epoch that seq lies in.
func EpochStart(seq int64) int64 { return seq >> epochBits << epochBits }

// Len is at most how many records lie in the range.
func (r Range) Len() int64 { return max(0, r.Through-max(r.After, EpochStart(r.Through))) }
