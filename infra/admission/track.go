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
	// maxRecent bounds what a track remembers while the store does not move.
	maxRecent = 4096
	// maxMarks bounds the read marks that a track remembers. Message nodes publish only marks that advance, so they matter
	// where two of a user come to two nodes at a time.
	maxMarks = 2048
	// gapPause lies between two attempts to read what the store lacks.
	gapPause = time.Second
)

// Track follows the records of one partition, every one in order from where it began.
type Track struct {
	judge     *Judge
	partition int32

	mu sync.Mutex
	// The changes of membership and the recalls after since that storage takes, in order.
	since  int64
	recent []events.Record
	gapAt  time.Time // when what the store lacks may be read again

	marks *lru.Cache[reader, mark]
}

// reader is a user in a conversation, mark up to where it has read there and which record said so.
type (
	reader struct {
		user         int64
		conversation string
	}
	mark struct{ seq, at int64 }
)

// Follow begins a track with the first record after the position.
func (j *Judge) Follow(after events.Position) *Track {
	return &Track{judge: j, partition: after.Partition, since: after.Seq}
}

// Admits reports whether storage takes the record, which comes after all that were asked for before. It is false for what
// storage refuses and for what has no effect any more; true where that cannot be found out within moments.
func (t *Track) Admits(ctx context.Context, r *events.Record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	admitted := true
	switch r.Type {
	case events.NewMessage:
		return t.message(ctx, r)
	case events.MessageEdited, events.MessageRecalled:
		admitted = t.change(ctx, r)
	case events.GroupCreated, events.MemberJoined, events.MemberLeft, events.GroupDissolved:
		admitted = t.membership(ctx, r)
	case events.MessageRead:
		admitted = t.read(r)
	}
	if admitted && matters(r) {
		t.remember(r)
	}
	return admitted
}

// matters reports whether what becomes of later records depends on the record.
func matters(r *events.Record) bool {
	return r.Type != events.NewMessage && r.Type != events.MessageEdited && r.Type != events.MessageRead
}

func (t *Track) remember(r *events.Record) {
	if len(t.recent) == maxRecent {
		half := maxRecent / 2
		t.since = t.recent[half-1].Seq
		t.recent = slices.Delete(t.recent, 0, half)
	}
	t.recent = append(t.recent, *r)
}

func (t *Track) message(ctx context.Context, r *events.Record) bool {
	m := r.Message
	if !r.OwnID(events.TopicMessages) {
		// Only such an id can be another user's message's.
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
	switch {
	case err != nil:
		return true
	case store.CheckChange(r, original) != nil:
		return false
	}
	return r.Type == events.MessageRecalled || !recalled
}

// read reports whether the mark advances, as far as the track has seen the user's marks: what the store has may be newer than
// the record.
func (t *Track) read(r *events.Record) bool {
	if t.marks == nil {
		t.marks, _ = lru.New[reader, mark](maxMarks) // fails for a size below 1 alone
	}
	by := reader{r.User, r.Conversation}
	if before, known := t.marks.Get(by); known && before.seq >= r.MessageSeq {
		return before.at == r.Seq
	}
	t.marks.Add(by, mark{r.MessageSeq, r.Seq})
	return true
}

// original finds the message of the id that stands before the record in its conversation, nil if there is none, and whether
// it was recalled. What the store does not have yet lies in the log at the position seq, or there is no such message.
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

// logged finds the message in the log, nil if it is not there or storage does not take it.
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

// membership goes by the stays that the change begins or ends where the store is ahead of it, else by the rules. The owner
// of a group is a member until it is dissolved.
func (t *Track) membership(ctx context.Context, r *events.Record) bool {
	group, err := t.group(ctx, r.GroupID)
	if err != nil {
		return true
	}
	if store.CheckMembership(r, group.Owner) != nil {
		return false
	}
	if group.Owner == 0 {
		return true // the group is created
	}
	ofOwner, err := t.stays(ctx, group.Owner, r.GroupID)
	if err != nil {
		return true
	}
	switch r.Type {
	case events.GroupCreated:
		return slices.ContainsFunc(ofOwner, func(s store.Membership) bool { return s.Joined == r.Seq })
	case events.GroupDissolved:
		return memberBefore(ofOwner, r.Seq)
	}
	stays, err := t.stays(ctx, r.User, r.GroupID)
	if err != nil {
		return true
	}
	if store.Takes(r, stays) {
		return memberBefore(ofOwner, r.Seq) && store.CheckEntry(r, group.Open, stays) == nil
	}
	return slices.ContainsFunc(stays, func(s store.Membership) bool {
		return r.Type == events.MemberJoined && s.Joined == r.Seq || r.Type == events.MemberLeft && s.Left == r.Seq
	})
}

// memberBefore reports whether one of the stays goes on until the position at least.
func memberBefore(stays []store.Membership, seq int64) bool {
	return slices.ContainsFunc(stays, func(s store.Membership) bool {
		return s.Joined < seq && (s.Left == 0 || s.Left >= seq)
	})
}

func (t *Track) group(ctx context.Context, id int64) (store.Group, error) {
	if err := t.complete(ctx); err != nil {
		return store.Group{}, err
	}
	for _, r := range t.recent {
		if r.Type == events.GroupCreated && r.GroupID == id {
			return store.Group{Owner: r.User, Open: r.Join == events.JoinOpen}, nil
		}
	}
	return t.judge.group(ctx, id)
}

// stays are the user's in the group, those that the store does not have yet included.
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
		case r.User != user:
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

// complete sees to it that whatever came before now is in the store or among the recent records. Where
// the store is behind the beginning of the track the log between is read.
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
