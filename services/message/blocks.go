package message

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
)

const (
	// usersHandler is the handler that keeps in the store who blocks whom, and usersGroup its consumer group.
	usersHandler = "users"
	usersGroup   = "users-consumer-group"
	// maxPairs is of how many pairs of users a node remembers whether one blocks the other, some 10 MB.
	maxPairs = 1 << 16
	// pairLife is after how long the store is asked again about a pair, in the background. Only a change that this node could
	// not see in the log stays unknown so long.
	pairLife = 30 * time.Second
	// pairPause is the least time between two such readings, of at most maxSeen pairs each.
	pairPause = 20 * time.Millisecond
)

// blocks decides whose direct messages a user refuses. It remembers the pairs of users that were asked for lately, also those
// without a block, and follows user-events to know what has changed since. As long as it keeps up with the log, only the first
// message of a pair waits for the store. A verb that blocks or unblocks returns a lease after user-events has the change: by
// then every node has seen the change, or asks. While the store is down, blocks goes on by what it knows and the log tells, and a
// pair of which it knows nothing passes, so that sends go on.
type blocks struct {
	store   Store
	changes *follower
	again   *shared[struct{}] // reads what is due
	reads   breaker           // of the store

	mu      sync.Mutex
	pairs   *lru.Cache[store.Pair, knownBlock]
	due     map[store.Pair]struct{} // to be read again
	trusted time.Time               // what was read before this may lack changes
}

// knownBlock is what is known of a pair since the reading of the store, or the record, that told it.
type knownBlock struct {
	store.Block
	since time.Time
}

// newBlocks follows the topic from where the store has everything, so that it misses nothing from the beginning.
func newBlocks(st Store, topic pubsub.Log, t *tasks) (*blocks, error) {
	pairs, err := lru.New[store.Pair, knownBlock](maxPairs)
	if err != nil {
		return nil, err
	}
	b := &blocks{store: st, pairs: pairs, due: make(map[store.Pair]struct{})}
	b.again = newShared(t, pairPause, storeTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, b.readDue(ctx)
	})
	begin := func(ctx context.Context) (map[int32]int64, error) {
		return pubsub.Kept(ctx, topic, usersGroup, func(ctx context.Context) (map[int32]int64, error) { return st.Progress(ctx, usersHandler) })
	}
	b.changes = newFollower(events.TopicUsers, topic, t, begin, b.see, b.missed)
	return b, nil
}

// among returns those of the pairs that are blocked, or an error if neither the log nor the store tells in time what has changed
// since.
func (b *blocks) among(ctx context.Context, pairs ...store.Pair) (map[store.Pair]bool, error) {
	upToDate := b.changes.upToDate(ctx)
	blocked, unsure, wait := b.look(pairs, upToDate)
	if len(unsure) == 0 {
		return blocked, nil
	}
	if err := b.read(ctx, unsure, wait); err == nil {
		blocked, _, _ = b.look(pairs, true)
	} else if !upToDate {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	return blocked, nil
}

// look returns what is known of the pairs: those that are blocked, those about which the store should be asked all the same,
// and how long that may take.
func (b *blocks) look(pairs []store.Pair, upToDate bool) (blocked map[store.Pair]bool, unsure []store.Pair, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = staleWait
	for _, pair := range pairs {
		known, ok := b.pairs.Get(pair)
		if known.Blocked {
			if blocked == nil {
				blocked = make(map[store.Pair]bool)
			}
			blocked[pair] = true
		}
		if !ok {
			wait = missWait
		}
		switch {
		case !ok || !upToDate || known.since.Before(b.trusted):
			unsure = append(unsure, pair)
		case time.Since(known.since) >= pairLife:
			b.due[pair] = struct{}{}
		}
	}
	if len(b.due) > 0 {
		b.again.start()
	}
	return blocked, unsure, wait
}

// readDue reads pairs that are due. After an error they become due again when they are asked for.
func (b *blocks) readDue(ctx context.Context) error {
	var pairs []store.Pair
	b.mu.Lock()
	for pair := range b.due {
		if pairs = append(pairs, pair); len(pairs) == maxSeen {
			break
		}
	}
	b.mu.Unlock()
	err := b.read(ctx, pairs, storeTimeout)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, pair := range pairs {
		delete(b.due, pair)
	}
	return err
}

func (b *blocks) read(ctx context.Context, pairs []store.Pair, wait time.Duration) error {
	began := time.Now()
	return b.reads.call(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		found, err := b.store.Blocks(ctx, pairs)
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			b.keep(pair, knownBlock{found[pair], began})
		}
		return nil
	})
}

// of returns what the store has of the pairs, or with an error what is known of them.
func (b *blocks) of(ctx context.Context, pairs []store.Pair) (found map[store.Pair]store.Block, err error) {
	err = b.reads.call(ctx, func(ctx context.Context) error {
		found, err = b.store.Blocks(ctx, pairs)
		return err
	})
	if err == nil {
		return found, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	found = make(map[store.Pair]store.Block)
	for _, pair := range pairs {
		if known, ok := b.pairs.Peek(pair); ok && known.Seq > 0 {
			found[pair] = known.Block
		}
	}
	return found, err
}

// keep keeps what is newer: the store may have less than what was seen in the log.
func (b *blocks) keep(pair store.Pair, known knownBlock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if before, ok := b.pairs.Peek(pair); ok && before.Seq > known.Seq {
		known.Block = before.Block
	}
	b.pairs.Add(pair, known)
}

// see notes a record of user-events.
func (b *blocks) see(r *events.Record) {
	if r.Type == events.UserBlocked || r.Type == events.UserUnblocked {
		block := store.Block{Seq: r.Seq, Blocked: r.Type == events.UserBlocked}
		b.keep(store.Pair{By: r.By, User: r.User}, knownBlock{block, time.Now()})
	}
}

// missed makes the store be asked again about all pairs, because changes may have been missed. The changes made before now
// are stored within [storedWait], or their verb has not told anybody that they hold.
func (b *blocks) missed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trusted = time.Now().Add(storedWait)
}
