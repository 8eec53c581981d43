package admission_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/admission"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/store"
	"millrace/infra/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The test draws random logs with many records that are forged, late or repeated. A track judges every record, beginning at a
// random place, with a store that is behind or ahead of it by a random distance. A second store saves one record after the
// other and shows what the right answer is.
func TestAdmitsExactlyWhatStorageTakes(t *testing.T) {
	verdicts := map[string]int{}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 60 {
				w.publish(t, w.draw())
			}
			begin := w.random.IntN(len(w.log))
			judge, err := admission.New(w.lagging, w.bus.Log(events.TopicMessages))
			require.NoError(t, err)
			track := judge.Follow(events.Position{Seq: int64(begin)})
			saved := 0
			for i := range w.log {
				taken, before := w.save(t, i)
				if i < begin {
					continue
				}
				if to := w.random.IntN(len(w.log) + 1); to > saved && w.random.IntN(3) == 0 {
					w.lagging.SaveBatch(t.Context(), w.log[saved:to])
					saved = to
				}
				r := &w.log[i]
				admitted := track.Admits(t.Context(), r)
				if taken && !admitted && r.Type == events.MessageEdited && saved > i {
					continue // the store is ahead: it has the recall that removed the edit
				}
				require.Equal(t, taken, admitted, "%d: %s, the track began at %d, stored are %d\n%+v\nbefore: %+v", i, describe(r), begin, saved, r.Event, before)
				verdicts[fmt.Sprint(r.Type, taken)]++
			}
		})
	}
	for _, kind := range []events.Type{
		events.NewMessage, events.MessageEdited, events.MessageRecalled, events.MemberJoined, events.MemberLeft, events.GroupDissolved,
		events.GroupRenamed, events.MemberRole, events.MemberMuted,
	} {
		for _, taken := range []bool{true, false} {
			require.Positive(t, verdicts[fmt.Sprint(kind, taken)], "the test must have seen %s taken: %t", kind, taken)
		}
	}
}

func TestWhatCannotBeFoundOutInTimeIsAdmitted(t *testing.T) {
	w := newWorld(t, 1)
	w.publish(t, said(1, 2, "one"))
	stranger := said(3, 0, "hello")
	w.publish(t, stranger)
	forged := w.edit(2, &w.log[0])
	w.publish(t, forged)
	judge, err := admission.New(downStore{}, w.bus.Log(events.TopicMessages))
	require.NoError(t, err)
	track := judge.Follow(events.Position{})
	require.True(t, track.Admits(t.Context(), &w.log[1]), "who belongs to the group only the store knows")
	require.False(t, track.Admits(t.Context(), &w.log[2]), "whose message it is the log says too")
}

func TestAuthorizedMemberIsLookedUpOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.publish(t, membership(events.GroupCreated, 1, 1))
	for i := range 10 {
		m := said(1, 0, fmt.Sprint(i))
		m.Message.Authorized = true
		w.publish(t, m)
	}
	w.lagging.SaveBatch(t.Context(), w.log[:1])
	counted := &countingStore{Store: w.lagging}
	judge, err := admission.New(counted, w.bus.Log(events.TopicMessages))
	require.NoError(t, err)
	track := judge.Follow(events.Position{Seq: 1})
	for i := range w.log[1:] {
		require.True(t, track.Admits(t.Context(), &w.log[1+i]))
	}
	require.Equal(t, 1, counted.stays)
}

func TestStoreThatWasPutBackIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.publish(t, membership(events.GroupCreated, 1, 1))
		w.publish(t, membership(events.MemberJoined, 1, 3))
		for i := range 3 {
			w.publish(t, said(3, 0, fmt.Sprint(i)))
		}
		w.truth.SaveBatch(t.Context(), w.log[:2])
		w.lagging.SaveBatch(t.Context(), w.log[:1])
		replaced := &countingStore{Store: w.truth}
		judge, err := admission.New(replaced, w.bus.Log(events.TopicMessages))
		require.NoError(t, err)
		track := judge.Follow(events.Position{Seq: 2})
		require.True(t, track.Admits(t.Context(), &w.log[2]))

		replaced.Store = w.lagging
		time.Sleep(2 * time.Second) // the judge goes by the positions of the first store for half of that
		require.True(t, track.Admits(t.Context(), &w.log[3]), "what the second store lacks is in the log")
		replaced.Store = downStore{}
		require.True(t, track.Admits(t.Context(), &w.log[4]))
	})
}

const group = 7

type world struct {
	random         *rand.Rand
	bus            *memory.Bus
	log            []events.Record
	truth, lagging *sqlite.DB
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{random: rand.New(rand.NewPCG(seed, 0)), bus: memory.NewBus(memory.Config{Partitions: 1})}
	for _, db := range []**sqlite.DB{&w.truth, &w.lagging} {
		opened, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, opened.Close()) })
		*db = opened
	}
	t.Cleanup(func() { require.NoError(t, w.bus.Close()) })
	return w
}

func (w *world) publish(t *testing.T, e events.Event) {
	t.Helper()
	if e.EventID == "" && e.Message == nil {
		e.EventID = fmt.Sprint("event ", len(w.log))
	}
	data, err := events.Encode(&e)
	require.NoError(t, err)
	msg := message.NewMessage("", data)
	msg.Metadata.Set(pubsub.KeyHeader, e.ConversationKey())
	require.NoError(t, w.bus.Publisher().Publish(events.TopicMessages, msg))
	pos, err := w.bus.Position(msg)
	require.NoError(t, err)
	e, err = events.Decode(events.TopicMessages, pos, data)
	require.NoError(t, err)
	w.log = append(w.log, events.Record{Event: e, Position: pos})
}

// save makes the second store save one record, and reports whether that changed anything that a reader can see.
func (w *world) save(t *testing.T, i int) (taken bool, before []any) {
	t.Helper()
	r := &w.log[i]
	before = w.seen(t, r)
	if err := w.truth.SaveBatch(t.Context(), []events.Record{*r})[0]; err != nil {
		require.True(t, events.IsPermanent(err), "%v", err)
		return false, before
	}
	return !slices.EqualFunc(before, w.seen(t, r), func(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) || r.Message != nil, before
}

// seen returns everything that the record can change.
func (w *world) seen(t *testing.T, r *events.Record) []any {
	t.Helper()
	switch {
	case r.Message != nil:
		return nil
	case r.MessageID != "":
		m, err := w.truth.Message(t.Context(), r.Conversation, r.MessageID)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		require.NoError(t, err)
		return []any{m}
	}
	group, err := w.truth.Group(t.Context(), r.GroupID)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	require.NoError(t, err)
	seen := []any{group}
	for user := range int64(5) {
		stays, err := w.truth.Stays(t.Context(), user, r.GroupID)
		require.NoError(t, err)
		seen = append(seen, stays)
	}
	return seen
}

// draw returns a random event, which may be valid or not.
func (w *world) draw() events.Event {
	user, other := 1+w.random.Int64N(4), 1+w.random.Int64N(4)
	text := fmt.Sprint("text ", len(w.log))
	if len(w.log) == 0 {
		return membership(events.GroupCreated, 1, 1)
	}
	switch w.random.IntN(10) {
	case 8:
		e := membership(events.MemberRole, user, 1+(user+w.random.Int64N(3))%4)
		e.Role = []events.Role{events.RoleOwner, events.RoleAdmin, events.RoleAdmin, events.RoleMember}[w.random.IntN(4)]
		return e
	case 9:
		e := membership(events.MemberMuted, user, w.random.Int64N(5))
		e.Until = new(int64(1 + len(w.log)))
		return e
	case 0:
		return said(user, other, text)
	case 1, 2:
		m := said(user, 0, text)
		m.Message.Authorized = w.random.IntN(2) == 0
		return m
	case 3:
		return membership(events.MemberJoined, user, other)
	case 4:
		return membership(events.MemberLeft, user, other)
	case 5:
		if w.random.IntN(4) == 0 {
			e := membership(events.GroupRenamed, user, 0)
			e.Name = text
			return e
		}
		if w.random.IntN(4) > 0 {
			return said(user, 0, text)
		}
		return membership(events.GroupDissolved, user, user)
	}
	r := &w.log[w.random.IntN(len(w.log))]
	if r.Message == nil {
		return said(user, other, text)
	}
	by := r.Message.From
	if w.random.IntN(3) == 0 {
		by = user
	}
	e := w.edit(by, r)
	switch w.random.IntN(6) {
	case 0:
		e.MessageSeq = 1 + w.random.Int64N(int64(len(w.log)))
	case 1:
		e.MessageID = "unknown"
	}
	recalled := slices.ContainsFunc(w.log, func(other events.Record) bool {
		return other.Type == events.MessageRecalled && other.MessageID == e.MessageID
	})
	if w.random.IntN(3) == 0 && !recalled {
		e.Type, e.Content = events.MessageRecalled, ""
		if w.random.IntN(3) == 0 {
			e.By, e.Reason = 0, "moderated"
		}
	}
	return e
}

func (w *world) edit(by int64, of *events.Record) events.Event {
	return events.Event{
		Type: events.MessageEdited, Conversation: of.ConversationKey(), MessageID: of.Message.MessageID, MessageSeq: of.Seq, By: by,
		Content: fmt.Sprint("edited ", len(w.log)), Timestamp: 1,
	}
}

// said is a message to a user, or to the group if `to` is 0.
func said(from, to int64, text string) events.Event {
	m := &events.Message{
		ClientMsgID: text, Conversation: events.Direct(from, to), From: from, To: to, Content: text, MessageType: 1, Timestamp: 1,
	}
	if to == 0 {
		m.Conversation, m.GroupID = events.Group(group), group
	}
	m.MessageID = events.MessageID(from, m.Conversation, text)
	return events.Event{Type: events.NewMessage, Message: m, Timestamp: 1}
}

func membership(kind events.Type, by, user int64) events.Event {
	e := events.Event{Type: kind, Conversation: events.Group(group), GroupID: group, User: user, By: by, Timestamp: 1}
	if kind == events.GroupCreated {
		e.Name, e.Members = "the group", []int64{1, 2}
	}
	return e
}

func describe(r *events.Record) string { return fmt.Sprint(r.Type, " at ", r.Position) }

// downStore is a store that is down.
type downStore struct{ admission.Store }

var errDown = errors.New("disk on fire")

func (downStore) Stored(context.Context) (map[int32]int64, error) { return nil, errDown }

func (downStore) Message(context.Context, string, string) (store.StoredMessage, error) {
	return store.StoredMessage{}, errDown
}

func (downStore) Stays(context.Context, int64, int64) ([]store.Membership, error) {
	return nil, errDown
}

type countingStore struct {
	admission.Store
	stays int
}

func (s *countingStore) Stays(ctx context.Context, user, group int64) ([]store.Membership, error) {
	s.stays++
	return s.Store.Stays(ctx, user, group)
}
