package admission

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/infra/store"
)

const (
	// maxRecent bounds what a track remembers while the stored position does not move.
	maxRecent = 4096
	// maxMarks bounds how many read marks a track remembers. Message nodes publish only marks that advance, so it matters
	// only if two marks of a user go through two nodes at the same time.
	maxMarks = 2048
	// gapPause is the pause between two attempts to read the records that the store lacks.
	gapPause = time.Second
)

// Track follows the records of one partition: it sees every record, in order, from the one where it began.
type Track struct {
	judge     *Judge
	partition int32

	mu sync.Mutex
	// recent holds, in order, the changes of membership and roles and the recalls after the position since that storage takes.
	since  int64
	recent []events.Record
	gapAt  time.Time // when the records that the store lacks may be read again

	marks *lru.Cache[reader, mark]
}

// A reader is a user in a conversation. A mark is the seq up to which the user has read there, and the seq of the record that
// said so.
type (
	reader struct {
		user         int64
		conversation string
	}
	mark struct{ seq, at int64 }
)

// Follow returns a track that begins with the first record after the position.
func (j *Judge) Follow(after events.Position) *Track {
	return &Track{judge: j, partition: after.Partition, since: after.Seq}
}

// Admits reports whether storage takes the record, which must come after all records that were passed before, unless it was passed
// before itself. It returns
// false for a record that storage refuses or that has no effect any more, and true if that cannot be found out within
// moments.
func (t *Track) Admits(ctx context.Context, r *events.Record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	admitted := true
	switch r.Type {
	case events.NewMessage:
		return t.message(ctx, r)
	case events.MessageEdited, events.MessageRecalled:
		admitted = t.change(ctx, r)
	case events.GroupCreated, events.MemberJoined, events.MemberLeft, events.GroupDissolved, events.GroupRenamed,
		events.MemberRole, events.MemberMuted:
		admitted = t.membership(ctx, r)
	case events.MessageRead:
		admitted = t.read(r)
	}
	if admitted && matters(r) {
		t.remember(r)
	}
	return admitted
}

// matters reports whether what storage makes of later records depends on the record.
func matters(r *events.Record) bool {
	switch r.Type {
	case events.NewMessage, events.MessageEdited, events.MessageRead, events.GroupRenamed, events.MemberMuted,
		events.ConversationSettings, events.MessageModerated:
		return false
	}
	return true
}

// remember does nothing for a record that comes again.
func (t *Track) remember(r *events.Record) {
	if n := len(t.recent); n > 0 && t.recent[n-1].Seq >= r.Seq {
		return
	}
	if len(t.recent) == maxRecent {
		half := maxRecent / 2
		t.since = t.recent[half-1].Seq
		t.recent = slices.Delete(t.recent, 0, half)
	}
	kept := *r
	kept.Value, kept.Headers = nil, nil
	t.recent = append(t.recent, kept)
}

// Stands reports whether the message that the record is about, a new message or an edit, stands as the record has left it:
// storage takes the record, it is no repeat, and nobody has recalled the message, as far as that is known by now. It returns
// true if that cannot be found out within moments.
func (t *Track) Stands(ctx context.Context, r *events.Record) bool {
	if !t.Admits(ctx, r) {
		return false
	}
	id, seq := r.MessageID, r.MessageSeq
	if r.Message != nil {
		id, seq = r.Message.MessageID, r.Seq
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	original, recalled, err := t.original(ctx, r, id, seq)
	return err != nil || original != nil && original.Seq == seq && !recalled
}

func (t *Track) message(ctx context.Context, r *events.Record) bool {
	m := r.Message
	if !r.OwnID(events.TopicMessages) {
		// Only a message whose id is its own can be a message of another user.
		if original, _, err := t.original(ctx, r, m.MessageID, r.Seq-1); err == nil && original != nil && store.CheckRepeat(r, original) != nil {
			return false
		}
	}
	if m.GroupID == 0 {
		return true
	}
	if first, ok := t.judge.first.Get(member{m.GroupID, m.From}); ok && m.Authorized && first < r.Seq {
		return true
	}
	stays, err := t.stays(ctx, m.From, m.GroupID)
	return err != nil || store.CheckSender(r, true, stays) == nil
}

func (t *Track) change(ctx context.Context, r *events.Record) bool {
	original, recalled, err := t.original(ctx, r, r.MessageID, r.MessageSeq)
	var by store.Standing
	if err == nil && store.Foreign(r, original) {
		by, err = t.standing(ctx, r)
	}
	if err != nil {
		return true
	}
	effective, err := store.CheckChange(r, original, by)
	return err == nil && effective && (r.Type == events.MessageRecalled || !recalled)
}

// read reports whether the mark advances, according to the marks of the user that the track has seen. It cannot ask the
// store, whose mark may be newer than the record.
func (t *Track) read(r *events.Record) bool {
	if t.marks == nil {
		t.marks, _ = lru.New[reader, mark](maxMarks) // fails only for a size below 1
	}
	by := reader{r.User, r.Conversation}
	if before, known := t.marks.Get(by); known && before.seq >= r.MessageSeq {
		return before.at == r.Seq
	}
	t.marks.Add(by, mark{r.MessageSeq, r.Seq})
	return true
}

// original finds the message with the id that lies before the record in its conversation, and reports whether it was
// recalled. It returns nil if there is none. If the store does not have it yet, it lies in the log at the position seq or
// does not exist.
func (t *Track) original(ctx context.Context, r *events.Record, id string, seq int64) (_ *store.Original, recalled bool, err error) {
	err = t.complete(ctx)
	recalled = slices.ContainsFunc(t.recent, func(other events.Record) bool {
		return other.Type == events.MessageRecalled && other.MessageID == id && other.ConversationKey() == r.ConversationKey()
	})
	var through int64
	if err == nil {
		through, err = t.judge.storedThrough(ctx, t.partition, seq)
	}
	if err == nil {
		var m store.StoredMessage
		err = t.judge.ask(ctx, func(ctx context.Context) (err error) {
			m, err = t.judge.store.Message(ctx, r.ConversationKey(), id)
			return err
		})
		if err == nil {
			return &store.Original{From: m.From, Seq: m.Seq}, recalled || m.Recalled, nil
		}
	}
	if errors.Is(err, store.ErrNotFound) && through >= seq {
		return nil, recalled, nil
	}
	original, err := t.logged(ctx, r.ConversationKey(), id, seq)
	return original, recalled, err
}

// logged finds the message in the log. It returns nil if the message is not there or storage does not take it.
func (t *Track) logged(ctx context.Context, conversation, id string, seq int64) (*store.Original, error) {
	var found *events.Record
	err := t.judge.read(ctx, events.Range{Partition: t.partition, After: seq - 1, Through: seq}, func(r *events.Record) {
		if r.Type == events.NewMessage && r.Message.MessageID == id && r.Message.Conversation == conversation {
			found = r
		}
	})
	if err != nil || found == nil {
		return nil, err
	}
	original := &store.Original{From: found.Message.From, Seq: found.Seq}
	if m := found.Message; m.GroupID != 0 {
		stays, err := t.stays(ctx, m.From, m.GroupID)
		if err == nil && store.CheckSender(found, true, stays) != nil {
			original = nil
		}
	}
	return original, nil
}

// membership reports whether storage takes a change of a group. If the store is ahead of the record, the stays and grants that
// begin or end at the record show it; else the rules decide.
func (t *Track) membership(ctx context.Context, r *events.Record) bool {
	group, err := t.group(ctx, r.GroupID)
	if err != nil {
		return true
	}
	by, err := t.stays(ctx, r.By, r.GroupID)
	if err != nil {
		return true
	}
	if r.Type == events.GroupCreated {
		first := group.Grants == nil || slices.ContainsFunc(by, func(s store.Membership) bool { return s.Joined == r.Seq })
		return first && group.CheckCreation(r) == nil
	}
	of := by
	if r.User != r.By {
		if of, err = t.stays(ctx, r.User, r.GroupID); err != nil {
			return true
		}
	}
	effective, err := group.Decide(r, by, of)
	return err == nil && effective
}

// standing returns what the user who has made the change is in its group.
func (t *Track) standing(ctx context.Context, r *events.Record) (store.Standing, error) {
	conversation, err := events.ParseConversation(r.Conversation)
	if err != nil {
		return store.Standing{}, err
	}
	group, err := t.group(ctx, conversation.GroupID)
	if err != nil {
		return store.Standing{}, err
	}
	stays, err := t.stays(ctx, r.By, conversation.GroupID)
	return store.Standing{User: r.By, Grants: group.Grants, Stays: stays}, err
}

// group returns the group with the changes that the store does not have yet, and without what no rule needs. It has no grants
// if there is no such group.
func (t *Track) group(ctx context.Context, id int64) (store.Group, error) {
	if err := t.complete(ctx); err != nil {
		return store.Group{}, err
	}
	group, err := t.judge.group(ctx, id)
	if err != nil {
		return group, err
	}
	for _, r := range t.recent {
		switch {
		case r.GroupID != id:
		case r.Type == events.GroupCreated && group.Grants == nil:
			group.Grants, group.Open = store.Founded(r.User), r.Join == events.JoinOpen
		case r.Type == events.GroupDissolved:
			group.Dissolved = r.Seq
		default:
			group.Grants = group.Grants.With(&r)
		}
	}
	return group, nil
}

// stays returns the user's stays in the group, including those that the store does not have yet.
func (t *Track) stays(ctx context.Context, user, group int64) ([]store.Membership, error) {
	if err := t.complete(ctx); err != nil {
		return nil, err
	}
	stays, err := t.judge.stays(ctx, user, group)
	if err != nil {
		return nil, err
	}
	for _, r := range t.recent {
		if r.GroupID != group {
			continue
		}
		change := r
		switch {
		case r.Type == events.GroupCreated && slices.Contains(r.Members, user):
			change.Type = events.MemberJoined
		case r.Type == events.GroupDissolved:
			change.Type = events.MemberLeft
		case r.User != user || r.Type == events.MemberRole:
			continue
		}
		switch {
		case !store.Takes(&change, stays):
		case change.Type == events.MemberJoined:
			stays = append(stays, store.Membership{GroupID: group, User: user, Joined: r.Seq})
		default:
			last := &stays[len(stays)-1]
			last.Left, last.Removed = r.Seq, r.Type == events.GroupDissolved || r.By != r.User
		}
	}
	return stays, nil
}

// complete makes sure that everything before the present record is in the store or among the recent records. If the store has
// less than what the track began with, complete reads the records between from the log.
func (t *Track) complete(ctx context.Context) error {
	through, err := t.judge.storedThrough(ctx, t.partition, t.since)
	if err != nil {
		return err
	}
	if through >= t.since {
		t.recent = slices.DeleteFunc(t.recent, func(r events.Record) bool { return r.Seq <= through })
		t.since = through
		return nil
	}
	gap := events.Range{Partition: t.partition, After: through, Through: t.since}
	if gap.Len() > maxBehind || time.Now().Before(t.gapAt) {
		return errUnknown
	}
	before := t.judge.Follow(events.Position{Partition: t.partition, Seq: through})
	err = t.judge.read(ctx, gap, func(r *events.Record) {
		if matters(r) {
			before.Admits(ctx, r)
		}
	})
	if err != nil {
		t.gapAt = time.Now().Add(gapPause)
		return errUnknown
	}
	t.since, t.recent = before.since, append(before.recent, t.recent...)
	return nil
}
