package message

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxErasures bounds the calls that erase at once, because each of them writes to the store all the time.
	maxErasures = 2
	// eraseTime is how long a call erases before it leaves the rest to the next.
	eraseTime = 5 * time.Second
)

// Erasing is the part of a store that erases users.
type Erasing interface {
	// Participations returns, in ascending order, the direct conversations of the user and the groups that it ever belonged to.
	Participations(ctx context.Context, user int64) ([]string, error)
	// SaveErasure notes that what the user has written up to the positions is erased. Whatever storage begins to save from now
	// on lacks it.
	SaveErasure(ctx context.Context, user int64, through map[int32]int64) error
	// EraseIn empties, in a conversation and after the position, some of what the user's erasure covers. It returns how many
	// messages it has emptied and after which position to go on, or 0 once nothing is left.
	EraseIn(ctx context.Context, user int64, conversation string, after int64) (messages int, next int64, err error)
	// EraseAccount drops the user's subscriptions and notifications and, unless it is online, when it was seen last.
	EraseAccount(ctx context.Context, user int64) error
}

// Eraser erases users from the store, and keeps them erased where storage reads the log again.
type Eraser struct {
	service *Service
	store   Erasing
	running *semaphore.Weighted
	time    time.Duration
}

// NewEraser returns an eraser that asks the service how far the log goes and how far storage is.
func NewEraser(service *Service, store Erasing) *Eraser {
	return &Eraser{service: service, store: store, running: semaphore.NewWeighted(maxErasures), time: eraseTime}
}

// EraseUser implements the call of the contract.
func (o *Operator) EraseUser(ctx context.Context, r *millracev1.EraseUserRequest) (*millracev1.EraseUserResponse, error) {
	return answer(o.eraser.erase(ctx, r.GetUser(), r.GetNext()))
}

func (e *Eraser) erase(ctx context.Context, user int64, token string) (*millracev1.EraseUserResponse, error) {
	if err := checkUser(user); err != nil {
		return nil, err
	}
	after, conversation, err := parseNext(token)
	if err != nil {
		return nil, err
	}
	if !e.running.TryAcquire(1) {
		return nil, errBusy
	}
	defer e.running.Release(1)
	if token == "" {
		if err := e.begin(ctx, user); err != nil {
			return nil, err
		}
	}
	return e.goOn(ctx, user, conversation, after)
}

// begin erases what is not in conversations, and returns once everything that is erased in them is either in the store or will
// be empty when it gets there. A batch that storage began to save before it could know of the erasure has only records that
// were in the log by then, so once storage is done with those there is no such batch any more.
func (e *Eraser) begin(ctx context.Context, user int64) error {
	bounds, err := e.service.bounds.get(ctx)
	if err != nil {
		return err
	}
	through := make(map[int32]int64, len(bounds))
	for partition, b := range bounds {
		through[partition] = b.Written
	}
	if err := e.store.SaveErasure(ctx, user, through); err != nil {
		return err
	}
	ends, err := e.service.ends.get(ctx)
	if err != nil {
		return err
	}
	if err := e.service.waitStored(ctx, ends, storedWait); err != nil {
		return err
	}
	return e.store.EraseAccount(ctx, user)
}

// goOn erases for a while, from a position in a conversation on, and at least one step.
func (e *Eraser) goOn(ctx context.Context, user int64, conversation string, after int64) (*millracev1.EraseUserResponse, error) {
	names, err := e.store.Participations(ctx, user)
	if err != nil {
		return nil, err
	}
	response := &millracev1.EraseUserResponse{}
	until, steps := time.Now().Add(e.time), 0
	for _, name := range names {
		if name < conversation {
			continue
		}
		if name != conversation {
			after = 0
		}
		for more := true; more; more = after != 0 {
			if steps++; steps > 1 && !time.Now().Before(until) {
				response.Next = formatNext(after, name)
				return response, nil
			}
			var emptied int
			if emptied, after, err = e.store.EraseIn(ctx, user, name, after); err != nil {
				return nil, err
			}
			response.Messages += int64(emptied)
		}
	}
	return response, nil
}
