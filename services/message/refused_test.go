package message

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// Readers of the log, be it a user who resumes or a gateway that fills a gap, get only what storage takes, even if storage
// has not come that far yet.
func TestReadersOfTheLogDoNotGetWhatStorageRefuses(t *testing.T) {
	stranger := saidIn(7, 3, "hello from outside")
	for name, stored := range map[string]int{"nothing stored": 0, "the message stored": 1, "the group stored too": 2} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, memory.Config{Partitions: 1})
			said := said(1, 2, "one")
			changeOf := func(kind events.Type, by, seq int64, content string) events.Event {
				return events.Event{
					Type: kind, EventID: events.EventID(kind, content), Conversation: "u:1:2", MessageID: said.Message.MessageID,
					MessageSeq: seq, By: by, Content: content, Timestamp: 5,
				}
			}
			positions := n.publish(t,
				said,
				change(events.GroupCreated, 7, 1, 0, 1),
				stranger,
				changeOf(events.MessageEdited, 2, 1, "forged"),
				changeOf(events.MessageEdited, 1, 2, "of another position"),
				changeOf(events.MessageRecalled, 1, 1, ""),
				changeOf(events.MessageEdited, 1, 1, "after the recall"),
				change(events.MemberJoined, 7, 3, 1),
			)
			taken := []int64{1, 2, 6, 8}
			var batch []events.Record
			for i, e := range []events.Event{said, change(events.GroupCreated, 7, 1, 0, 1)} {
				if i < stored {
					batch = append(batch, events.Record{Event: e, Position: positions[i]})
				}
			}
			for _, err := range n.db.SaveBatch(t.Context(), batch) {
				require.NoError(t, err)
			}

			stream, err := n.ReadLog(t.Context(), &millracev1.ReadLogRequest{Partition: 0, After: 0, Through: 8})
			require.NoError(t, err)
			span, err := stream.Recv()
			require.NoError(t, err)
			var got []int64
			for _, d := range span.GetSpan().GetDeliveries() {
				got = append(got, d.GetSeq())
			}
			require.Equal(t, taken, got)

			s := n.sync(t, &millracev1.SyncRequest{User: 1, Resume: true, Cursor: map[int32]int64{0: 0}})
			require.Empty(t, s.GetIncomplete())
			require.Equal(t, taken, s.got[0])
		})
	}
}
