package events

import (
	"context"
	"errors"
	"time"
)

// Handler is one independent consumer of a topic, with its own consumer group, progress, retries and metrics.
type Handler struct {
	// Name identifies the handler in logs, in metrics and in the setting --handlers.
	Name string
	// Topic is the topic that the handler reads.
	Topic string
	// Types may be nil. Otherwise the handler gets only records of these types; the router skips the others, which costs less
	// than to have a handler ignore them. It skips a record by its [TypeHeader] without looking at the value.
	Types []Type
	// Group is the consumer group. It is the handler's identity and never changes.
	Group string
	// Handle does the work for one record. The router calls it for the records of a partition one at a time and in order, and
	// for several partitions at once. After nil the partition goes on. The router tries again after any error that is not
	// permanent, for ever. An [InvalidError], an error marked by [Permanent] and a panic are permanent: the router moves the
	// record to the poison queue at once. A record that goes on failing while others are handled is moved there too, and is
	// tried again later. Handle may be called several times for one record.
	// Other handlers of the process share what the record points to, so Handle must not change it.
	Handle func(ctx context.Context, r Record) error

	// HandleBatch may be nil. Otherwise the router calls it first where several records of a partition wait. It handles them
	// in order and returns an error or nil for each. The router then passes those that failed to Handle one by one, or all of
	// them if HandleBatch panicked.
	HandleBatch func(ctx context.Context, records []Record) []error
	// Gather is about how long a record may wait so that HandleBatch gets more of them at once, which costs less, and so that the
	// brokers are asked less often; 0 is not at all.
	Gather time.Duration

	// Timeout is how long one attempt may take, for a record or a batch, before its context ends; 0 means 5 s.
	Timeout time.Duration

	// NoReplay says in words for an operator why the handler cannot handle a record whose Replay is true; nobody makes
	// replays for it then. It is empty if the handler can. A handler that can must not ignore a replay, which would count as
	// handled.
	NoReplay string

	// Ready may be nil. Otherwise it returns the reason why the handler cannot do its work now, or nil if it can or has not
	// tried yet. It must return promptly.
	Ready func() error
	// Reopen may be nil. Otherwise it makes the handler close and open again the files that it uses, after an operator has
	// changed them.
	Reopen func() error

	// The hooks are optional. The router calls all but Progress one at a time for each partition, and all but Progress and
	// Advance must not block.

	// Progress returns, by partition, the position up to which the handler's work is kept in the place where the handler
	// keeps it. If the group has committed more than that, for example after a store was restored from a backup, the group
	// goes back and reads the records after that position again. Nil means that the group goes on from its committed offsets.
	Progress func(ctx context.Context) (map[int32]int64, error)
	// Advance notes there that everything up to the position is done with. The router calls it before the group commits the last
	// of the records that it has passed together. After an error the next call makes up for it. It is nil where Progress is, and
	// where the handler's work says itself how far it has come.
	Advance func(ctx context.Context, done Position) error
	// Assigned is called when this process begins to read a partition. The first record comes after the position.
	Assigned func(after Position)
	// Settled is called, in order, when a record is done with: it was handled, skipped as a repeat, or moved to the poison
	// queue.
	Settled func(Position)
	// Released is called when this process stops reading a partition.
	Released func(partition int32)
}

// Permanent marks an error as one that trying again does not mend. See [IsPermanent].
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// IsPermanent reports whether the error is an [InvalidError] or was marked by [Permanent].
func IsPermanent(err error) bool {
	var invalid *InvalidError
	var permanent *permanentError
	return errors.As(err, &invalid) || errors.As(err, &permanent)
}
