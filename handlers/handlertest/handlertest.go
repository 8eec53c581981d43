// Package handlertest is the contract of a handler as a test suite: it checks what the router relies on, whatever a handler
// does with records. The tests in services/millrace run it over each handler in handlers/module.go, and then the handler
// under the router itself, so that a new handler is held to the contract from its first day.
package handlertest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
)

// The suite's records are direct messages from Sender to Receiver with a seq above Begin, unless the subject makes others.
const (
	Sender   int64 = 1
	Receiver int64 = 2
	Begin    int64 = 10
)

// Subject is a handler under test together with a way to see its work.
type Subject struct {
	Handler events.Handler
	// Record returns the event of the record with the seq, for a handler of another topic than that of messages. All have the
	// same key, and every seq has another event. It is nil for direct messages.
	Record func(seq int64) events.Event
	// Headers are those of the suite's records; may be nil.
	Headers events.HeaderMap
	// Done returns the seqs of the suite's records that took effect: each as often as it did, in the order in which an
	// observer sees them, from all processes that took part. It waits for work that is still under way.
	Done func(t *testing.T) []int64
	// TakeOver ends the handler as the end of its process would, and returns the handler of the process that takes over.
	TakeOver func(t *testing.T) Subject
}

// Conversation returns the name of the conversation of the suite's records.
func Conversation() string { return events.Direct(Sender, Receiver) }

// Partition returns the partition of the suite's records.
func Partition() int32 { return events.Partition(Conversation(), events.DefaultPartitions) }

// Run runs the suite. Every test gets a new handler from open.
func Run(t *testing.T, open func(*testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"it says who it is", saysWhoItIs},
		{"records take effect in order, alone and in batches", keepsOrder},
		{"a record that comes again has its effect once", onceIfRedelivered},
		{"a repeat at a later position is no error and undoes nothing", standsRepeats},
		{"a replay at its old position is done, once, or refused openly", replays},
		{"a record that cannot be handled fails for good, and the others of its batch do not", isolates},
		{"partitions are handled side by side", sideBySide},
		{"what was in hand at the end of the process takes effect in the next one", survivesTheEnd},
		{"who takes over goes on where the group has committed", takesOver},
		{"a partition that is given back can be assigned again", assignedAgain},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func saysWhoItIs(t *testing.T, s Subject) {
	h := s.Handler
	require.NotEmpty(t, h.Name)
	require.NotEmpty(t, h.Topic)
	require.Equal(t, h.Name+"-consumer-group", h.Group)
	require.NotNil(t, h.Handle)
}

func keepsOrder(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, s.record(11))
	s.handles(t, s.record(12), s.record(13), s.record(14))
	s.handles(t, s.record(20))
	require.Equal(t, []int64{11, 12, 13, 14, 20}, s.Done(t))
}

func onceIfRedelivered(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, s.record(11), s.record(12))
	s.handles(t, s.record(11))
	s.handles(t, s.record(11), s.record(12), s.record(13))
	s.handles(t, s.record(12))
	require.Equal(t, []int64{11, 12, 13}, s.Done(t))
}

func standsRepeats(t *testing.T, s Subject) {
	s.assign(Begin)
	repeat := s.record(13)
	repeat.Event = s.record(11).Event
	s.handles(t, s.record(11), s.record(12))
	s.handles(t, repeat)
	s.handles(t, s.record(14))
	// The router recognises a repeat as long as it remembers the event, so a handler may handle one that does come again.
	done := slices.DeleteFunc(s.Done(t), func(seq int64) bool { return seq == 13 })
	require.Equal(t, []int64{11, 12, 14}, done)
}

func replays(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, s.record(11), s.record(13))
	if s.Handler.NoReplay != "" {
		require.Greater(t, len(s.Handler.NoReplay), 10, "it must say why in words")
		return // nobody makes replays for this handler
	}
	replay := s.record(12)
	replay.Replay = true
	for range 2 { // a replay may itself come twice
		require.NoError(t, s.Handler.Handle(t.Context(), replay))
	}
	s.handles(t, s.record(14))
	done := s.Done(t)
	slices.Sort(done)
	require.Equal(t, []int64{11, 12, 13, 14}, done)

	s = s.TakeOver(t)
	s.assign(13)
	require.NoError(t, s.Handler.Handle(t.Context(), replay))
	s.handles(t, s.record(14), s.record(15))
	done = s.Done(t)
	slices.Sort(done)
	require.Equal(t, []int64{11, 12, 13, 14, 15}, done)
}

func isolates(t *testing.T, s Subject) {
	s.assign(Begin)
	forged := s.record(12)
	if s.Record == nil {
		forged.Event = events.Event{
			Type: events.MessageEdited, EventID: "forged", Conversation: Conversation(), MessageID: s.record(11).Message.MessageID,
			MessageSeq: 11, By: Receiver, Content: "forged", Timestamp: 1,
		}
	}
	records := []events.Record{s.record(11), forged, s.record(13)}
	var errs []error
	if s.Handler.HandleBatch != nil {
		errs = s.Handler.HandleBatch(t.Context(), records)
		require.Len(t, errs, len(records))
	} else {
		for _, r := range records {
			errs = append(errs, s.Handler.Handle(t.Context(), r))
		}
	}
	require.NoError(t, errs[0])
	require.NoError(t, errs[2])
	if errs[1] != nil {
		require.True(t, events.IsPermanent(errs[1]), "trying again would not mend it: %v", errs[1])
		err := s.Handler.Handle(t.Context(), forged)
		require.Error(t, err)
		require.True(t, events.IsPermanent(err))
	}
	s.settle(records...)
	done := slices.DeleteFunc(s.Done(t), func(seq int64) bool { return seq == 12 })
	require.Equal(t, []int64{11, 13}, done)
}

// sideBySide handles records of other partitions at the same time, of which a race detector sees what they share.
func sideBySide(t *testing.T, s Subject) {
	s.assign(Begin)
	var others sync.WaitGroup
	for to := Receiver + 1; to < Receiver+5; to++ {
		at := events.Position{Partition: events.Partition(events.Direct(Sender, to), events.DefaultPartitions), Seq: 1000} // unlike those of the suite
		if s.Record != nil || at.Partition == Partition() {
			continue
		}
		others.Go(func() {
			if s.Handler.Assigned != nil {
				s.Handler.Assigned(at)
			}
			for range 20 {
				at.Seq++
				assert.NoError(t, s.Handler.Handle(t.Context(), events.Record{Event: message(to, at.Seq), Position: at}))
				if s.Handler.Settled != nil {
					s.Handler.Settled(at)
				}
			}
		})
	}
	var want []int64
	for seq := Begin + 1; seq <= Begin+20; seq += 2 {
		s.handles(t, s.record(seq), s.record(seq+1))
		want = append(want, seq, seq+1)
	}
	others.Wait()
	done := slices.DeleteFunc(s.Done(t), func(seq int64) bool { return !slices.Contains(want, seq) })
	require.Equal(t, want, done)
}

func survivesTheEnd(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, s.record(11))
	ended := s
	s = s.TakeOver(t)
	// The process may end while the router still hands out records. The records are not to blame for that.
	errs := []error{ended.Handler.Handle(t.Context(), s.record(12))}
	if batch := ended.Handler.HandleBatch; batch != nil {
		errs = append(errs, batch(t.Context(), []events.Record{s.record(12), s.record(13)})...)
	}
	for _, err := range errs {
		require.False(t, events.IsPermanent(err), "%v", err)
	}
	s.assign(Begin)
	s.handles(t, s.record(11), s.record(12), s.record(13))
	require.Equal(t, []int64{11, 12, 13}, s.Done(t))
}

func takesOver(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, s.record(11), s.record(12), s.record(13))
	s = s.TakeOver(t)
	s.assign(11)
	s.handles(t, s.record(12))
	s.handles(t, s.record(13), s.record(14))
	require.Equal(t, []int64{11, 12, 13, 14}, s.Done(t))
}

func assignedAgain(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, s.record(11), s.record(12))
	if s.Handler.Released != nil {
		s.Handler.Released(Partition())
	}
	s.assign(11)
	s.handles(t, s.record(12), s.record(13))
	require.Equal(t, []int64{11, 12, 13}, s.Done(t))
}

// Event returns the event of the record with the seq.
func (s *Subject) Event(seq int64) events.Event {
	if s.Record != nil {
		return s.Record(seq)
	}
	return message(Receiver, seq)
}

func (s *Subject) record(seq int64) events.Record {
	e := s.Event(seq)
	value, _ := events.Encode(&e) // the suite's events are valid
	return events.Record{Event: e, Position: events.Position{Partition: Partition(), Seq: seq}, Value: value, Headers: s.Headers}
}

// message returns a direct message from the sender.
func message(to, seq int64) events.Event {
	m := &events.Message{
		ClientMsgID: fmt.Sprint(seq), Conversation: events.Direct(Sender, to), From: Sender, To: to, Content: fmt.Sprint("text ", seq),
		MessageType: 1, Timestamp: 1,
	}
	m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
	return events.Event{Type: events.NewMessage, EventID: m.MessageID, Message: m, Timestamp: 1}
}

func (s *Subject) assign(after int64) {
	if s.Handler.Assigned != nil {
		s.Handler.Assigned(events.Position{Partition: Partition(), Seq: after})
	}
}

// handles passes the records to the handler as the router does: several as a batch if it takes batches.
func (s *Subject) handles(t *testing.T, records ...events.Record) {
	t.Helper()
	if len(records) > 1 && s.Handler.HandleBatch != nil {
		errs := s.Handler.HandleBatch(t.Context(), records)
		require.Len(t, errs, len(records))
		for i, err := range errs {
			require.NoError(t, err, "record %d", i)
		}
	} else {
		for _, r := range records {
			require.NoError(t, s.Handler.Handle(t.Context(), r))
		}
	}
	s.settle(records...)
}

func (s *Subject) settle(records ...events.Record) {
	for _, r := range records {
		if s.Handler.Settled != nil {
			s.Handler.Settled(r.Position)
		}
	}
}
