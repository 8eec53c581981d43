package message

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
)

// edited and withdrawn are changes of the group's message with the id and the position.
func edited(group, by int64, id string, at events.Position, content string) events.Event {
	return events.Event{
		Type: events.MessageEdited, EventID: rand.Text(), Conversation: events.Group(group),
		MessageID: events.MessageID(by, events.Group(group), id), MessageSeq: at.Seq, By: by, Content: content, Timestamp: 5,
	}
}

func withdrawn(group, by int64, id string, at events.Position) events.Event {
	e := edited(group, by, id, at, "")
	e.Type = events.MessageRecalled
	return e
}

func TestHistoryShowsAStayAsItStoodWhenTheUserLeft(t *testing.T) {
	n := newNode(t, memory.Config{})
	at := n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2), saidIn(7, 1, "a"), saidIn(7, 1, "b"), saidIn(7, 2, "own"))
	n.publish(t, edited(7, 1, "a", at[1], "A"), change(events.MemberLeft, 7, 2, 0))
	n.publish(t, edited(7, 1, "a", at[1], "a secret"), withdrawn(7, 1, "b", at[2]), withdrawn(7, 2, "own", at[3]))
	n.keepAll(t)
	for range 2 {
		require.Equal(t, []string{"A", "b", ""}, walk(t, n, 2, "g:7", 2, true), "its own message is as it is")
		require.Equal(t, []string{"A", "b", ""}, walk(t, n, 2, "g:7", 2, false))
		require.Equal(t, []string{"a secret", "", ""}, walk(t, n, 1, "g:7", 2, true))
		n.publish(t, change(events.MemberJoined, 7, 2, 1), edited(7, 1, "a", at[1], "another secret"), edited(7, 1, "a", at[1], "a secret"))
		n.keepAll(t)
	}
}

// It must make no difference which part of what happened is in the store, and which only in the log.
func TestSyncTellsNothingOfMessagesFromOutsideTheStay(t *testing.T) {
	for stored := range 11 {
		t.Run(fmt.Sprint(stored, " stored"), func(t *testing.T) {
			n := newNode(t, memory.Config{Partitions: 1})
			at := n.publish(t, change(events.GroupCreated, 7, 1, 0, 1), saidIn(7, 1, "a"), saidIn(7, 1, "b"))
			cursor := map[int32]int64{0: at[2].Seq}
			joined := n.publish(t, change(events.MemberJoined, 7, 2, 0))
			n.publish(t, edited(7, 1, "a", at[1], "a secret"), withdrawn(7, 1, "b", at[2]))
			seen := n.publish(t, saidIn(7, 1, "c"))
			changed := n.publish(t, edited(7, 1, "c", seen[0], "C"))
			left := n.publish(t, change(events.MemberLeft, 7, 2, 0))
			n.publish(t, edited(7, 1, "c", seen[0], "a secret"))
			if stored > 0 {
				n.keep(t, 0, int64(stored))
			}
			s := n.resume(t, 2, cursor)
			require.True(t, s.GetRecovered())
			require.Equal(t, []int64{joined[0].Seq, seen[0].Seq, changed[0].Seq, left[0].Seq}, s.got[0])
			require.NotContains(t, strings.Join(s.texts, "\n"), "secret")
			require.Contains(t, s.texts[2], `"content":"C"`)
		})
	}
}
