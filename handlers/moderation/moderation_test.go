package moderation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/moderation"
)

// judge refuses the records with the seqs in refused, and knows the messages in recalled to be recalled.
type judge struct {
	refused, recalled map[int64]bool
	asked             []int64
	released          bool
}

func (*judge) Assigned(events.Position) {}

func (j *judge) Released(int32) { j.released = true }

func (j *judge) Admits(_ context.Context, r *events.Record) bool {
	j.asked = append(j.asked, r.Seq)
	return !j.refused[r.Seq]
}

func (j *judge) Stands(_ context.Context, r *events.Record) bool {
	return !j.refused[r.Seq] && !j.recalled[max(r.MessageSeq, r.Seq)]
}

// floods finds the messages with the seqs too many.
type floods struct {
	tooMany   map[int64]string
	err       error
	forgotten bool
}

func (f *floods) Judge(_ context.Context, r *events.Record) (string, error) {
	return f.tooMany[r.Seq], f.err
}

func (f *floods) Forget(int32) { f.forgotten = true }

// topic takes so many changes more; less than 0: all.
type topic struct {
	changes []moderation.Change
	calls   int
	takes   int
}

var errAway = errors.New("no brokers")

func (p *topic) PublishChanges(_ context.Context, all []moderation.Change) (int, error) {
	p.calls++
	if p.takes >= 0 && p.takes < len(all) {
		p.changes = append(p.changes, all[:p.takes]...)
		return p.takes, errAway
	}
	p.changes = append(p.changes, all...)
	return len(all), nil
}

// told returns the changes in short, in order.
func (p *topic) told() (told []string) {
	for _, c := range p.changes {
		told = append(told, fmt.Sprint(c.Type, " ", c.MessageID, " ", c.MessageSeq, " ", c.User, " ", c.Reason))
	}
	return told
}

func world() (*judge, *floods, *topic, events.Handler) {
	j, f, p := &judge{recalled: map[int64]bool{}}, &floods{}, &topic{takes: -1}
	return j, f, p, moderation.Handler(j, f, p)
}

func said(seq int64, reason string) events.Record {
	headers := events.HeaderMap{events.CorrelationHeader: "c1"}
	r := events.Record{
		Event: events.Event{Type: events.NewMessage, EventID: fmt.Sprint("m", seq), Message: &events.Message{
			MessageID: fmt.Sprint("m", seq), Conversation: "u:1:2", From: 1, To: 2, Content: "text", MessageType: 1,
		}},
		Position: events.Position{Partition: 3, Seq: seq}, Headers: headers,
	}
	if reason != "" {
		headers[events.RecallHeader] = reason
	}
	return r
}

func TestMessageIsRecalledAndItsSenderIsTold(t *testing.T) {
	_, f, p, h := world()
	f.tooMany = map[int64]string{8: "too many", 9: "too many"}
	edit := events.Record{
		Event: events.Event{
			Type: events.MessageEdited, EventID: "e", Conversation: "u:1:2", MessageID: "m2", MessageSeq: 2, By: 2, Content: "rude",
		},
		Position: events.Position{Partition: 3, Seq: 10}, Headers: events.HeaderMap{events.RecallHeader: "rude"},
	}
	errs := h.HandleBatch(t.Context(), []events.Record{said(7, ""), said(8, ""), said(9, "spam"), edit})
	require.Equal(t, make([]error, 4), errs)
	require.Equal(t, []string{
		"message_recalled m8 8 0 too many", "message_moderated m8 8 1 too many",
		"message_recalled m9 9 0 spam", "message_moderated m9 9 1 spam",
		"message_recalled m2 2 0 rude", "message_moderated m2 2 2 rude",
	}, p.told())
	require.Equal(t, 1, p.calls)
	recalled, moderated := p.changes[0], p.changes[1]
	require.Equal(t, events.EventID(events.MessageRecalled, "u:1:2", "m8"), recalled.EventID, "the author's own recall has the same")
	require.Equal(t, events.EventID(events.MessageModerated, "u:1:2", "m8"), moderated.EventID)
	require.Equal(t, "c1", recalled.Correlation)
	for _, c := range p.changes {
		require.NoError(t, c.Validate())
		require.Equal(t, "u:1:2", c.Key())
	}
}

func TestNothingIsRecalledTwiceOrThatStorageRefuses(t *testing.T) {
	j, _, p, h := world()
	j.refused, j.recalled[8] = map[int64]bool{7: true}, true
	edit := said(10, "again")
	edit.Event = events.Event{
		Type: events.MessageEdited, EventID: "e", Conversation: "u:1:2", MessageID: "m9", MessageSeq: 9, By: 1, Content: "rude",
	}
	batch := []events.Record{said(7, "stranger"), said(8, "by its author"), said(9, "spam"), edit}
	require.Equal(t, make([]error, 4), h.HandleBatch(t.Context(), batch))
	require.Equal(t, []string{"message_recalled m9 9 0 spam", "message_moderated m9 9 1 spam"}, p.told())
}

func TestWhatWasPublishedInPartIsPublishedAgainWithTheSameIDs(t *testing.T) {
	j, _, p, h := world()
	p.takes = 3
	batch := []events.Record{said(7, "a"), said(8, "b"), said(9, ""), said(10, "c")}
	errs := h.HandleBatch(t.Context(), batch)
	for i, failed := range []bool{false, true, false, true} {
		require.Equal(t, failed, errs[i] != nil, i)
		require.False(t, events.IsPermanent(errs[i]))
	}
	p.takes = -1
	j.recalled[8] = true // by what was published
	require.NoError(t, h.Handle(t.Context(), batch[1]))
	require.NoError(t, h.Handle(t.Context(), batch[3]))
	require.Equal(t, []string{
		"message_recalled m7 7 0 a", "message_moderated m7 7 1 a", "message_recalled m8 8 0 b",
		"message_recalled m8 8 0 b", "message_moderated m8 8 1 b", "message_recalled m10 10 0 c", "message_moderated m10 10 1 c",
	}, p.told())
	require.Equal(t, p.changes[2].EventID, p.changes[3].EventID)

	require.NoError(t, h.Handle(t.Context(), batch[1]))
	require.Len(t, p.changes, 7, "it is done, and recalled by now")
}

func TestRecordWhoseReasonNobodyMayBeToldIsForThePoisonQueue(t *testing.T) {
	_, _, p, h := world()
	errs := h.HandleBatch(t.Context(), []events.Record{said(7, "\xff"), said(8, strings.Repeat("x", 1025)), said(9, "spam")})
	require.True(t, events.IsPermanent(errs[0]))
	require.ErrorContains(t, errs[0], "header recall is not text")
	require.True(t, events.IsPermanent(errs[1]))
	require.NoError(t, errs[2])
	require.Len(t, p.changes, 2)
}

func TestOnlyWhatOthersDependOnIsFollowed(t *testing.T) {
	j, f, p, h := world()
	var batch []events.Record
	followed := append(events.GroupChanges(), events.MessageRecalled)
	require.ElementsMatch(t, append(followed, events.NewMessage, events.MessageEdited), h.Types)
	for i, kind := range followed {
		batch = append(batch, events.Record{
			Event: events.Event{Type: kind}, Position: events.Position{Seq: int64(i)}, Headers: events.HeaderMap{events.RecallHeader: "no"},
		})
	}
	require.Equal(t, make([]error, len(batch)), h.HandleBatch(t.Context(), batch))
	require.Len(t, j.asked, len(batch))
	require.Zero(t, p.calls)

	f.err = errAway
	require.ErrorIs(t, h.Handle(t.Context(), said(7, "spam")), errAway, "it comes again once floods are known")
	h.Released(3)
	require.True(t, j.released)
	require.True(t, f.forgotten)
}
