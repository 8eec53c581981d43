// Package handlertest is the contract of a handler as a test suite: it checks what the router relies on, whatever a handler
// does with records. The test in services/millrace runs it over each handler in handlers/module.go, so that a new handler is
// held to the contract from its first day.
package handlertest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// The suite's records are direct messages from Sender to Receiver with a seq above Begin.
const (
	Sender   int64 = 1
	Receiver int64 = 2
	Begin    int64 = 10
)

// Subject is a handler under test together with a way to see its work.
type Subject struct {
	Handler events.Handler
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
	s.handles(t, message(11))
	s.handles(t, message(12), message(13), message(14))
	s.handles(t, message(20))
	require.Equal(t, []int64{11, 12, 13, 14, 20}, s.Done(t))
}

func onceIfRedelivered(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, message(11), message(12))
	s.handles(t, message(11))
	s.handles(t, message(11), message(12), message(13))
	s.handles(t, message(12))
	require.Equal(t, []int64{11, 12, 13}, s.Done(t))
}

func standsRepeats(t *testing.T, s Subject) {
	s.assign(Begin)
	repeat := message(13)
	repeat.Message = message(11).Message
	repeat.EventID = repeat.Message.MessageID
	s.handles(t, message(11), message(12))
	s.handles(t, repeat)
	s.handles(t, message(14))
	// The router recognises a repeat as long as it remembers the event, so a handler may handle one that does come again.
	done := slices.DeleteFunc(s.Done(t), func(seq int64) bool { return seq == 13 })
	require.Equal(t, []int64{11, 12, 14}, done)
}

func replays(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, message(11), message(13))
	if s.Handler.NoReplay != "" {
		require.Greater(t, len(s.Handler.NoReplay), 10, "it must say why in words")
		return // nobody makes replays for this handler
	}
	replay := message(12)
	replay.Replay = true
	for range 2 { // a replay may itself come twice
		require.NoError(t, s.Handler.Handle(t.Context(), replay))
	}
	s.handles(t, message(14))
	done := s.Done(t)
	slices.Sort(done)
	require.Equal(t, []int64{11, 12, 13, 14}, done)

	s = s.TakeOver(t)
	s.assign(13)
	require.NoError(t, s.Handler.Handle(t.Context(), replay))
	s.handles(t, message(14), message(15))
	done = s.Done(t)
	slices.Sort(done)
	require.Equal(t, []int64{11, 12, 13, 14, 15}, done)
}

func isolates(t *testing.T, s Subject) {
	s.assign(Begin)
	forged := message(12)
	forged.Event = events.Event{
		Type: events.MessageEdited, EventID: "forged", Conversation: Conversation(), MessageID: message(11).Message.MessageID,
		MessageSeq: 11, By: Receiver, Content: "forged", Timestamp: 1,
	}
	records := []events.Record{message(11), forged, message(13)}
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

func survivesTheEnd(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, message(11))
	ended := s
	s = s.TakeOver(t)
	// The process may end while the router still hands out records. The records are not to blame for that.
	if err := ended.Handler.Handle(t.Context(), message(12)); err != nil {
		require.False(t, events.IsPermanent(err), "%v", err)
	}
	s.assign(Begin)
	s.handles(t, message(11), message(12), message(13))
	require.Equal(t, []int64{11, 12, 13}, s.Done(t))
}

func takesOver(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, message(11), message(12), message(13))
	s = s.TakeOver(t)
	s.assign(11)
	s.handles(t, message(12))
	s.handles(t, message(13), message(14))
	require.Equal(t, []int64{11, 12, 13, 14}, s.Done(t))
}

func assignedAgain(t *testing.T, s Subject) {
	s.assign(Begin)
	s.handles(t, message(11), message(12))
	if s.Handler.Released != nil {
		s.Handler.Released(Partition())
	}
	s.assign(11)
	s.handles(t, message(12), message(13))
	require.Equal(t, []int64{11, 12, 13}, s.Done(t))
}

// message returns the record with the seq.
func message(seq int64) events.Record {
	m := &events.Message{
		ClientMsgID: fmt.Sprint(seq), Conversation: Conversation(), From: Sender, To: Receiver, Content: fmt.Sprint("text ", seq),
		MessageType: 1, Timestamp: 1,
	}
	m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
	return events.Record{
		Event:    events.Event{Type: events.NewMessage, EventID: m.MessageID, Message: m, Timestamp: 1},
		Position: events.Position{Partition: Partition(), Seq: seq},
	}
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
