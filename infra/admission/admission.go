// Package admission decides whether storage will take a record that was just read from the log. Storage and push read the log
// independently, so push often has a record first. It must not push what storage then refuses (a forged edit, a group message
// by a stranger) or drops (an edit of a message that was recalled). The same goes for whoever reads records from the log
// while the store lags.
//
// The rules are those of package store. The facts that they need come from two sides of the stored position, up to which the
// store is known to have everything. Facts from before it come from the store. Facts from after it come from a [Track], which
// has followed the partition's records and remembers the few that matter. If the facts cannot be had in time, the record is
// admitted: Millrace trusts the log, and a store that is down delays nobody.
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
	// storeTimeout bounds how long a record waits for the store. After the store has failed, nobody asks it for storePause.
	storeTimeout = 200 * time.Millisecond
	storePause   = time.Second
	logTimeout   = time.Second
	// storedLife is how long the stored positions are used before the judge reads them again: they go back when somebody puts
	// back an older store. While the store is down they go on being used.
	storedLife = time.Second
	// maxBehind is how many records the store may lack for a track to read them from the log.
	maxBehind   = 10_000
	cachedStays = 1 << 17
)

// Store is the part of a store that the judge needs.
type Store interface {
	Stored(ctx context.Context) (map[int32]int64, error)
	Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error)
	Group(ctx context.Context, id int64) (store.Group, error)
	Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error)
}

// Log is the part of message-events' log that the judge needs; see [pubsub.Log].
type Log interface {
	Current(positions map[int32]int64) map[int32]int64
	Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error
}

// Judge asks the store and the log on behalf of all tracks. It is safe for concurrent use.
type Judge struct {
	store Store
	log   Log
	// first holds the position at which a user first joined a group, which never changes.
	first *lru.Cache[member, int64]

	mu     sync.Mutex
	stored map[int32]int64 // as last read; the store may have more by now
	readAt time.Time
	until  time.Time // when the store may be asked again
}

type member struct{ group, user int64 }

// New returns a judge that asks the store and the log.
func New(st Store, log Log) (*Judge, error) {
	first, err := lru.New[member, int64](cachedStays)
	if err != nil {
		return nil, err
	}
	return &Judge{store: st, log: log, first: first}, nil
}

// errUnknown says that something could not be found out in time.
var errUnknown = errors.New("not known in time")

// ask calls the store, unless the store has just failed.
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

// storedThrough returns a position of the partition up to which everything is stored. It asks the store again if the position
// that it knows lies below need or is older than storedLife.
func (j *Judge) storedThrough(ctx context.Context, partition int32, need int64) (int64, error) {
	j.mu.Lock()
	known, fresh := j.stored[partition], time.Since(j.readAt) < storedLife
	j.mu.Unlock()
	if known >= need && fresh {
		return known, nil
	}
	at := known
	err := j.ask(ctx, func(ctx context.Context) error {
		stored, err := j.store.Stored(ctx)
		if err != nil {
			return err
		}
		all := map[int32]int64{partition: 0} // the partition is absent if nothing of it is stored
		maps.Copy(all, stored)
		stored = j.log.Current(all)
		j.mu.Lock()
		j.stored, j.readAt = stored, time.Now()
		j.mu.Unlock()
		at = stored[partition]
		return nil
	})
	if err != nil && known >= need {
		return known, nil
	}
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

// group returns a group, which may be as it became after the record that is judged. It has no grants if the store knows no
// group with the id.
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

// read visits the records of the range, leaving out invalid ones and replays.
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
