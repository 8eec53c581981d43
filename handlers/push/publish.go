package push

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"millrace/events"
)

const (
	// offlineAfter is how long a user must have been without a connection before user_offline is published, so that one who
	// reconnects stays online. A gateway that died is noticed within 15 s, so all this takes less than 30 s.
	offlineAfter = 10 * time.Second
	// publishEvery is how long changes of presence may wait to be published together.
	publishEvery = time.Second
	// publishTimeout bounds one publishing of changes; what is left is tried again at the next.
	publishTimeout = 10 * time.Second
	// publishedAtOnce is how many changes are published together.
	publishedAtOnce = 256
	// maxMoves is how many users are remembered who have come or gone, some 15 MB. If more have, the store is away for long or
	// has nobody who fills it, and what is so is compared with it once it is back.
	maxMoves = 1 << 17
)

// Users is where it is kept who is online: the topic user-events, and the store that has what the topic says.
type Users interface {
	// Behind returns the partitions of user-events of which the store does not have everything that they have now.
	Behind(ctx context.Context) (map[int32]bool, error)
	// LastSeen returns the latest user_online or user_offline of those of the users who have one.
	LastSeen(ctx context.Context, users []int64) (map[int64]events.Record, error)
	// OnlineUsers returns the users whose latest record lies in the partition and is a user_online.
	OnlineUsers(ctx context.Context, partition int32) ([]int64, error)
	// PartitionOf returns the partition of user-events that has the user's records.
	PartitionOf(user int64) int32
	// Publish publishes events on user-events.
	Publish(all []events.Event) error
}

// moves are the changes of presence that may have to be published as user_online and user_offline. Every push node knows who
// is online, so one of them must do it for each user: the one that reads the partition of message-events with the number of
// the user's partition of user-events. It compares what it sees with the user's latest record in the store and publishes the
// difference. So it does not matter which node did it before, what that node had published, or whether the same change is
// seen again. Only users who have just come or gone take memory here. The mutex of the routes guards it.
type moves struct {
	users map[int64]move
	taken map[int32]time.Time // the partitions that are read here of late, of whose users nothing is known yet, and since when
	most  int                 // of the users
	lost  bool                // there were more, so nothing is known of the users of any partition
}

// move says that a user has come or gone.
type move struct {
	user int64
	at   time.Time
	came bool // and may have gone since
}

func newMoves() *moves {
	return &moves{users: make(map[int64]move), taken: make(map[int32]time.Time), most: maxMoves}
}

// note notes that the user has come or gone. If that are too many, all users become due to be compared.
func (m *moves) note(user int64, online bool) {
	if len(m.users) >= m.most {
		clear(m.users)
		m.lost = true
	}
	m.add(user, online)
}

// add is note without a bound. One who has gone before the coming was published has come all the same.
func (m *moves) add(user int64, online bool) {
	m.users[user] = move{user, time.Now(), online || m.users[user].came}
}

// publishMoves publishes changes of presence until the hub stops.
func (h *Hub) publishMoves() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-h.stop:
			return
		}
		_ = h.opts.Contain(func() { // Contain counts a panic; the changes are still there at the next tick
			if err := h.publishPresence(ctx); err != nil {
				h.log.Warn("changes of presence wait, trying again", "error", err)
			}
		})
	}
}

// publishPresence publishes the changes that are due. Those that it cannot publish stay for the next time.
func (h *Hub) publishPresence(ctx context.Context) error {
	if !h.routes.moving() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	users := h.opts.Users
	behind, err := users.Behind(ctx)
	if err != nil {
		return fmt.Errorf("positions of user-events: %w", err)
	}
	for _, partition := range h.routes.takenOver() {
		if behind[partition] {
			continue
		}
		online, err := users.OnlineUsers(ctx, partition)
		if err != nil {
			return err
		}
		h.routes.compare(partition, online, users.PartitionOf)
	}
	for some := range slices.Chunk(h.routes.due(behind, users.PartitionOf), publishedAtOnce) {
		if err := h.publishSome(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// publishSome publishes an event for each of the users whose latest record does not say what is so.
func (h *Hub) publishSome(ctx context.Context, some []move) error {
	ids := make([]int64, len(some))
	for i, m := range some {
		ids[i] = m.user
	}
	last, err := h.opts.Users.LastSeen(ctx, ids)
	if err != nil {
		return err
	}
	var changed []events.Event
	for _, m := range some {
		before := last[m.user]
		if m.came == (before.Type == events.UserOnline) {
			continue
		}
		e := events.Event{Type: events.UserOffline, User: m.user, Timestamp: m.at.Unix()}
		if m.came {
			e.Type = events.UserOnline
		}
		// What follows the same record is the same change, whoever publishes it.
		e.EventID = events.EventID(e.Type, strconv.FormatInt(m.user, 10), before.Position.String())
		changed = append(changed, e)
	}
	if len(changed) > 0 {
		if err := h.opts.Users.Publish(changed); err != nil {
			return err
		}
	}
	h.routes.moved(some)
	return nil
}

// moving reports whether there is anything to compare with the store.
func (t *routes) moving() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.presence.moves
	return len(m.users) > 0 || len(m.taken) > 0 || m.lost
}

// takenOver returns the partitions that are read here for so long that all gateways have reported their users.
func (t *routes) takenOver() (partitions []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.presence.moves.lost {
		for partition := range t.partitions {
			t.presence.moves.taken[partition] = time.Now()
		}
		t.presence.moves.lost = false
	}
	for partition, at := range t.presence.moves.taken {
		if time.Since(at) >= offlineAfter {
			partitions = append(partitions, partition)
		}
	}
	return partitions
}

// compare makes all users of the partition due who are online here or, according to the store, elsewhere.
func (t *routes) compare(partition int32, online []int64, partitionOf func(int64) int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user := range t.presence.online {
		if partitionOf(user) == partition {
			t.presence.moves.add(user, true)
		}
	}
	for _, user := range online {
		if _, moved := t.presence.moves.users[user]; !moved {
			t.presence.moves.users[user] = move{user: user, at: time.Now().Add(-offlineAfter)}
		}
	}
	delete(t.presence.moves.taken, partition)
}

// due returns the changes that can be published now. It forgets those that are for another node to publish, but only after a
// while, because a partition that moves is read by no node at first.
func (t *routes) due(behind map[int32]bool, partitionOf func(int64) int32) (due []move) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user, m := range t.presence.moves.users {
		partition := partitionOf(user)
		if _, held := t.partitions[partition]; !held {
			if time.Since(m.at) >= offlineAfter {
				delete(t.presence.moves.users, user)
			}
		} else if !behind[partition] && (m.came || time.Since(m.at) >= offlineAfter) {
			due = append(due, m)
		}
	}
	return due
}

// moved forgets the changes that were published. Whoever came and has gone again is due later.
func (t *routes) moved(some []move) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range some {
		if t.presence.moves.users[m.user] != m {
			continue
		}
		delete(t.presence.moves.users, m.user)
		if m.came && t.presence.online[m.user] == 0 {
			t.presence.moves.users[m.user] = move{user: m.user, at: m.at}
		}
	}
}
