// Package admission says of a record that was just read from the log whether storage is going to take it. Storage and push
// read the log side by side, so push often has a record first, and must not show what storage then refuses (a forged edit, a
// message by a stranger to the group) or drops (an edit of what was recalled). The same goes for what readers get from the
// log while the store lags.
//
// The rules are those of package store. What they need is put together from both sides of the position up to which the
// store is known to have everything: before it the store answers, and behind it a [Track], which has followed the
// partition's records, remembers the few that matter. Whoever cannot find out in time takes the record: the log is trusted,
// and a store that is down delays nobody.
package admission

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
)

const (
	// storeTimeout is how long a record waits for the store, storePause how long nobody asks it after it has failed.
	storeTimeout = 200 * time.Millisecond
	storePause   = time.Second
	logTimeout   = time.Second
	// maxBehind is how far behind the store may be for the log between to be read.
	maxBehind   = 10_000
	cachedStays = 1 << 17
)

// Store is what is asked of a store.
type Store interface {
	Stored(ctx context.Context) (map[int32]int64, error)
	Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error)
	Group(ctx context.Context, id int64) (store.Group, error)
	Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error)
}

// Log is what is asked of the log of message-events; see [pubsub.Log].
type Log interface {
	Current(positions map[int32]int64) map[int32]int64
	Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error
}

// Judge asks the store and the log for all tracks. It may be used concurrently.
type Judge struct {
	store Store
	log   Log
	// first holds where users were first seen to have joined a group, which never changes.
	first *lru.Cache[member, int64]

	mu     sync.Mutex
	stored map[int32]int64 // as last read; the store may be further by now
	until  time.Time       // when the store may be asked again
}

type member struct{ group, user int64 }

// New returns a judge over the store and the log.
func New(st Store, log Log) (*Judge, error) {
	first, err := lru.New[member, int64](cachedStays)
	if err != nil {
		return nil, err
	}
	return &Judge{store: st, log: log, first: first}, nil
}

// errUnknown says that something could not be found out in time.
var errUnknown = errors.New("not known in time")

// ask calls the store unless it has just failed.
func (j *Judge) ask(ctx context.Context, call func(context.Context) error) error {
	j.mu.Lock()
	paused := time.Now().Before(j.until)
	j.mu.Unlock()
	if paused {
		return errUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := call(ctx)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return err
	}
	j.mu.Lock()
	j.until = time.Now().Add(storePause)
	j.mu.Unlock()
	return errUnknown
}

// storedThrough answers a position of the partition up to which everything is stored, as far on as need be and is possible.
func (j *Judge) storedThrough(ctx context.Context, partition int32, need int64) (int64, error) {
	j.mu.Lock()
	at := j.stored[partition]
	j.mu.Unlock()
	if at >= need {
		return at, nil
	}
	err := j.ask(ctx, func(ctx context.Context) error {
		stored, err := j.store.Stored(ctx)
		if err != nil {
			return err
		}
		all := map[int32]int64{partition: 0} // also where nothing is stored
		maps.Copy(all, stored)
		stored = j.log.Current(all)
		j.mu.Lock()
		j.stored = stored
		j.mu.Unlock()
		at = stored[partition]
		return nil
	})
	return at, err
}

func (j *Judge) stays(ctx context.Context, user, group int64) (stays []store.Membership, err error) {
	err = j.ask(ctx, func(ctx context.Context) error {
		stays, err = j.store.Stays(ctx, user, group)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(stays) > 0 {
		j.first.Add(member{group, user}, stays[0].Joined)
	}
	return stays, nil
}

// group answers a group, of which only what never changes is of use; without an owner the store has none of the id.
func (j *Judge) group(ctx context.Context, id int64) (g store.Group, err error) {
	err = j.ask(ctx, func(ctx context.Context) error {
		g, err = j.store.Group(ctx, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return store.Group{}, nil
	}
	return g, err
}

// read visits the records of the range that are valid and no replays.
func (j *Judge) read(ctx context.Context, r events.Range, visit func(*events.Record)) error {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	return j.log.Read(ctx, []events.Range{r}, func(raw pubsub.RawRecord) error {
		if raw.Replay {
			return nil
		}
		e, err := events.Decode(events.TopicMessages, raw.Position, raw.Value)
		if err == nil {
			visit(&events.Record{Event: e, Position: raw.Position})
		}
		return nil
	})
}
