package events

import (
	"context"
	"errors"
)

// Handler is one independent consumer of a topic: its own consumer group, progress, retries and metrics.
type Handler struct {
	// Name is for logs, metrics and --handlers.
	Name string
	// Topic it reads.
	Topic string
	// Group is the consumer group. It is the handler's identity and never changes.
	Group string
	// Handle does the work for one record. Records of a partition come one at a time, in order; partitions run side by
	// side. Nil lets the log go on. An error is tried again for ever unless it is permanent: an [InvalidError] or one
	// marked by [Permanent], or a panic; those go to the poison queue at once. A record that goes on failing while others
	// are handled waits there, and others go before it. The same record may come again.
	Handle func(ctx context.Context, r Record) error

	// HandleBatch, if not nil, is tried first where several records of a partition wait: it takes them in order and answers
	// an error for each. Those that failed, or all if it panicked, are then given to Handle one by one.
	HandleBatch func(ctx context.Context, records []Record) []error

	// NoReplay says, in words for an operator, why the handler cannot do a [Record].Replay, so that none is made for it; empty
	// if it can. A replay is never counted as done by who did nothing.
	NoReplay string

	// Ready, if not nil, reports why the handler cannot do its work now; nil if it can, or nobody has tried. It must not block
	// for long.
	Ready func() error
	// Reopen, if not nil, has the handler let go of what it holds open and take it up anew, for an operator who changed it.
	Reopen func() error

	// The hooks are optional. All but Progress are called one at a time for a partition and must not block.

	// Progress returns, by partition, the position up to which what the handler has done is kept where the handler keeps it.
	// Where the group has committed more, as when a backup of the store was put back, the records from there on come
	// again. Nil: the group goes on where it has committed.
	Progress func(ctx context.Context) (map[int32]int64, error)
	// Assigned tells that this process reads the partition from now on, from the first record after the position.
	Assigned func(after Position)
	// Settled tells that the record is done with, be it handled, skipped as a repeat or poisoned. It comes in order.
	Settled func(Position)
	// Released tells that this process reads the partition no more.
	Released func(partition int32)
}

// Permanent marks an error that trying again does not mend.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// IsPermanent reports whether trying again does not mend the error.
func IsPermanent(err error) bool {
	var invalid *InvalidError
	var permanent *permanentError
	return errors.As(err, &invalid) || errors.As(err, &permanent)
}
