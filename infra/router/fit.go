package router

import (
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/infra/pubsub"
)

// These bounds say how much of the original a poison record keeps. Together they stay far below the million bytes that a
// broker accepts by default. So whatever a producer got into the log, compressed or not, gets into the poison queue, and
// back.
const (
	maxReasonBytes = 1 << 10
	// maxPoisonValueBytes is more than the size of any event that keeps to the limits in package events.
	maxPoisonValueBytes = 256 << 10
	// cutValueBytes is how much is kept of a value that is longer.
	cutValueBytes         = 4 << 10
	maxPoisonKeyBytes     = 1 << 10
	maxPoisonHeaderBytes  = 1 << 10  // of one header with name and value
	maxPoisonHeadersBytes = 16 << 10 // of all headers
)

// CutValue returns the value as poison records and replays hold it. A value that is too long is cut to its first bytes, and
// size is its length then, else 0.
func CutValue(value []byte) (kept []byte, size int) {
	if len(value) <= maxPoisonValueBytes {
		return value, 0
	}
	return value[:cutValueBytes], len(value)
}

// ownHeaders returns the headers that the original of a replay had when it was published.
func ownHeaders(msg *message.Message) message.Metadata {
	own := make(message.Metadata, len(msg.Metadata))
	CopyHeaders(own, msg.Metadata)
	return own
}

// CopyHeaders copies a record's own headers in the order of their names, as many as fit, and returns how many did not. It
// leaves out those that only Millrace sets on poison records and replays.
func CopyHeaders(to, from message.Metadata) (dropped int) {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if name == pubsub.KeyHeader || strings.HasPrefix(name, poisonPrefix) || strings.HasPrefix(name, replayPrefix) {
			continue
		}
		size := len(name) + len(from[name])
		if size > maxPoisonHeaderBytes || total+size > maxPoisonHeadersBytes {
			dropped++
			continue
		}
		total += size
		to[name] = from[name]
	}
	return dropped
}
