package message

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	historyUsers      = 4
	historyGroups     = 3
	historyPartitions = 3
)

// written is a log written at random, together with what a reader who sees all of it makes of it.
type written struct {
	node   *node
	random *rand.Rand
	log    []events.Record
	stays  map[int64][]store.Membership // by group
	owners map[int64]int64
	admins map[[2]int64]bool // by group and user
	alive  map[int64]bool
	done   map[string]events.Type // by message, the last change of it
}

// The test compares Sync with a naive reader that knows every stay and reads from the beginning.
func TestSyncGivesWhatANaiveReaderOfTheWholeLogWould(t *testing.T) {
	delivered, incomplete := 0, 0
	for seed := range uint64(15) {
		w := &written{
			node: newNode(t, memory.Config{Partitions: historyPartitions}), random: rand.New(rand.NewPCG(seed, 1)),
			stays: map[int64][]store.Membership{}, owners: map[int64]int64{}, admins: map[[2]int64]bool{}, alive: map[int64]bool{}, done: map[string]events.Type{},
		}
		for range 4 {
			w.write(t, 40)
			w.storeSome(t)
			user := 1 + w.random.Int64N(historyUsers)
			name := fmt.Sprintf("seed %d, %d records", seed, len(w.log))

			s := w.check(t, name, user, w.stored(t))
			require.Empty(t, s.GetIncomplete(), name)
			require.True(t, s.known, name)
			delivered += s.count()

			// Without the store, with the groups that were just learnt: everything comes from the log.
			w.node.store.down.Store(true)
			w.write(t, 20)
			s = w.check(t, name+", store down", user, map[int32]int64{})
			require.True(t, s.known, name)
			delivered += s.count()
			incomplete += len(s.GetIncomplete())
			w.node.store.down.Store(false)
			w.node.service.breaker = breaker{}

			// Storage goes on while Sync asks the store.
			stored := w.stored(t)
			w.storeSome(t)
			w.node.store.behind.Store(&stored)
			s = w.check(t, name+", store ahead", user, stored)
			require.True(t, s.known, name)
			delivered += s.count()
			incomplete += len(s.GetIncomplete())
			w.node.store.behind.Store(nil)
		}
	}
	require.Greater(t, delivered, 1000, "the test must compare something")
	require.Greater(t, incomplete, 3)
}

// check syncs the user from a random cursor and compares everything but the incomplete partitions.
func (w *written) check(t *testing.T, name string, user int64, stored map[int32]int64) synced {
	t.Helper()
	end := w.node.end(t)
	cursor := map[int32]int64{}
	for p, last := range end {
		if w.random.IntN(5) > 0 {
			cursor[p] = w.random.Int64N(last + 1)
		}
	}
	s := w.node.sync(t, &millracev1.SyncRequest{User: user, Resume: true, Cursor: cursor})
	require.True(t, s.GetRecovered(), name)
	require.Equal(t, end, s.GetEnd(), name)
	want, known := w.expected(user, cursor, stored)
	for _, p := range s.GetIncomplete() {
		require.NotContains(t, s.got, p, name)
		delete(want, p)
	}
	for p, got := range s.got {
		s.got[p] = slices.DeleteFunc(got, func(seq int64) bool { return known[events.Position{Partition: p, Seq: seq}] })
		if len(s.got[p]) == 0 {
			delete(s.got, p)
		}
	}
	require.Equal(t, want, s.got, "%s: user %d from %v, stored %v", name, user, cursor, stored)

	groups := map[int64]int64{}
	for group, stays := range w.stays {
		for _, stay := range stays {
			if stay.User == user && stay.Left == 0 {
				groups[group] = stay.Joined
			}
		}
	}
	require.Equal(t, groups, s.groups, name)
	return s
}

// expected returns what the user has missed, and the repeats that it may get too: those of messages which it has by its
// cursor, as long as the store has not seen that they are repeats. Of other messages only the first must come, so a user who
// joined since gets none.
func (w *written) expected(user int64, cursor, stored map[int32]int64) (want map[int32][]int64, known map[events.Position]bool) {
	want, known = map[int32][]int64{}, map[events.Position]bool{}
	first := map[string]*events.Record{}
	for i := range w.log {
		r := &w.log[i]
		id := r.EventID
		if r.Message != nil {
			id = r.Message.MessageID
		}
		if first[id] == nil {
			first[id] = r
		}
		after, asked := cursor[r.Partition]
		switch {
		case !asked || r.Seq <= after || r.Type == events.MessageRead || !w.sees(user, r):
		case first[id] == r:
			want[r.Partition] = append(want[r.Partition], r.Seq)
		case first[id].Seq <= after && r.Seq > stored[r.Partition] && w.sees(user, first[id]):
			known[r.Position] = true
		}
	}
	return want, known
}

func (w *written) sees(user int64, r *events.Record) bool {
	conversation, err := events.ParseConversation(r.ConversationKey())
	if err != nil || conversation.GroupID == 0 {
		return err == nil && conversation.Has(user)
	}
	return slices.ContainsFunc(w.stays[conversation.GroupID], func(stay store.Membership) bool {
		return stay.User == user && stay.Joined <= r.Seq && (stay.Left == 0 || r.Seq <= stay.Left) &&
			(r.MessageID == "" || r.MessageSeq > stay.Joined)
	})
}

func (w *written) stored(t *testing.T) map[int32]int64 {
	stored, err := w.node.db.Stored(t.Context())
	require.NoError(t, err)
	return stored
}

// storeSome lets the storage of every partition advance by a random amount.
func (w *written) storeSome(t *testing.T) {
	stored := w.stored(t)
	for p, end := range w.node.end(t) {
		if lag := end - stored[p]; lag > 0 {
			w.node.keep(t, p, stored[p]+w.random.Int64N(lag+1))
		}
	}
}

func (w *written) write(t *testing.T, n int) {
	for range n {
		if w.random.IntN(12) == 0 {
			w.node.publishRaw(t, events.Direct(1, 2), "no JSON")
			continue
		}
		e, ok := w.next()
		if !ok {
			continue
		}
		r := events.Record{Event: e, Position: w.node.publish(t, e)[0]}
		w.log = append(w.log, r)
		w.apply(&r)
	}
}

// next draws an event, and reports whether it has an effect.
func (w *written) next() (events.Event, bool) {
	id := strconv.Itoa(len(w.log))
	user, other := 1+w.random.Int64N(historyUsers), 1+w.random.Int64N(historyUsers)
	group := 10 + w.random.Int64N(historyGroups)
	member := w.member(group, user)
	made := w.stays[group] != nil
	dissolved := made && !w.alive[group]
	owner := w.owners[group]
	switch w.random.IntN(12) {
	case 0, 1:
		return said(user, other, id), true
	case 2, 3:
		return saidIn(group, user, id), member
	case 4:
		if !made {
			return change(events.GroupCreated, group, user, len(w.log), slices.Compact(slices.Sorted(
				slices.Values([]int64{user, other})))...), true
		}
		return change(events.MemberJoined, group, user, len(w.log)), !member && !dissolved
	case 5:
		return change(events.MemberJoined, group, user, len(w.log)), made && !member && !dissolved
	case 6:
		return change(events.MemberLeft, group, user, len(w.log)), member && user != owner
	case 7:
		return change(events.GroupDissolved, group, owner, len(w.log)), made && !dissolved && w.random.IntN(8) == 0
	case 8, 9:
		return w.governs(group, user, other)
	case 10:
		return events.Event{
			Type: events.MessageRead, Conversation: events.Direct(user, other), User: user, MessageSeq: 1, Timestamp: 5,
		}, true
	}
	return w.again(id)
}

func (w *written) member(group, user int64) bool {
	return slices.ContainsFunc(w.stays[group], func(s store.Membership) bool { return s.User == user && s.Left == 0 })
}

// governs draws a change of a role or a mute by the owner or an admin, and reports whether it has an effect.
func (w *written) governs(group, user, other int64) (events.Event, bool) {
	e := change(events.MemberMuted, group, other, len(w.log))
	e.By, e.Until = user, new(w.random.Int64N(100))
	plain := w.member(group, other) && other != w.owners[group] && !w.admins[[2]int64{group, other}]
	if w.random.IntN(2) == 0 {
		return e, w.member(group, user) && plain && (user == w.owners[group] || w.admins[[2]int64{group, user}])
	}
	e.Type, e.By, e.Until = events.MemberRole, w.owners[group], nil
	e.Role = []events.Role{events.RoleOwner, events.RoleAdmin, events.RoleMember}[w.random.IntN(3)]
	same := plain == (e.Role == events.RoleMember) && e.Role != events.RoleOwner
	return e, w.alive[group] && w.member(group, other) && other != e.By && !same
}

// again draws a repeat, an edit or a recall of an earlier message. The store does not return edits of a recalled message, so
// no message gets both.
func (w *written) again(id string) (events.Event, bool) {
	if len(w.log) == 0 {
		return events.Event{}, false
	}
	r := w.log[w.random.IntN(len(w.log))]
	if r.Type != events.NewMessage {
		return events.Event{}, false
	}
	m := r.Message
	if w.random.IntN(2) == 0 {
		return r.Event, true
	}
	first := slices.IndexFunc(w.log, func(other events.Record) bool {
		return other.Message != nil && other.Message.MessageID == m.MessageID
	})
	e := events.Event{
		Type: events.MessageEdited, EventID: id, Conversation: m.Conversation, MessageID: m.MessageID, MessageSeq: w.log[first].Seq,
		By: m.From, Content: "edited", Timestamp: 5,
	}
	if w.random.IntN(2) == 0 {
		e.Type, e.Content = events.MessageRecalled, ""
		if owner := w.owners[m.GroupID]; w.alive[m.GroupID] {
			e.By = owner
		}
	}
	if w.done[m.MessageID] != "" && (w.done[m.MessageID] != events.MessageEdited || e.Type != events.MessageEdited) {
		return events.Event{}, false
	}
	w.done[m.MessageID] = e.Type
	return e, true
}

func (w *written) apply(r *events.Record) {
	group := r.GroupID
	switch r.Type {
	case events.GroupCreated:
		w.owners[group], w.alive[group] = r.User, true
		for _, user := range r.Members {
			w.stays[group] = append(w.stays[group], store.Membership{GroupID: group, User: user, Joined: r.Seq})
		}
	case events.MemberJoined:
		w.stays[group] = append(w.stays[group], store.Membership{GroupID: group, User: r.User, Joined: r.Seq})
	case events.MemberRole:
		w.admins[[2]int64{group, r.User}] = r.Role == events.RoleAdmin
		if r.Role == events.RoleOwner {
			w.owners[group], w.admins[[2]int64{group, r.By}] = r.User, true
		}
	case events.MemberLeft, events.GroupDissolved:
		delete(w.admins, [2]int64{group, r.User})
		if r.Type == events.GroupDissolved {
			delete(w.alive, group)
		}
		for i, stay := range w.stays[group] {
			if stay.Left == 0 && (r.Type == events.GroupDissolved || stay.User == r.User) {
				w.stays[group][i].Left = r.Seq
			}
		}
	}
}
