package connect_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/connect"
)

func TestPushesOfGroupsThatWereUnknownFollow(t *testing.T) {
	s := startSimple(t, connect.Config{Retry: 10 * time.Millisecond})
	s.w.append(s.w.membership(events.GroupCreated, 7, 2, 1, 2))
	s.w.store.down.Store(true)
	c, connected := s.connect(1)
	require.False(t, connected.Complete)
	s.w.tell(2, 7, "to the group")
	s.w.say(2, 1, "to me")
	require.Empty(t, c.pushed("to me").Pos, "it would move the cursor past what the group said")
	s.w.store.down.Store(false)
	created := c.read() // nobody could say how far storage was, so everything is delivered that may not be in history
	require.Equal(t, "group_created", created.Push.Type, created.raw)
	c.pushed("to the group")
	complete := c.read()
	require.Equal(t, "complete", complete.Push.Type, complete.raw)
	s.w.tell(2, 7, "and live")
	require.NotEmpty(t, c.pushed("and live").Pos)
}

func TestAGroupThatOnlySyncReportsIsSubscribedWithoutAGap(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.w.append(s.w.membership(events.GroupCreated, 7, 2, 1, 2))
	s.message.stale = true
	var once sync.Once
	s.message.afterSync = func() { once.Do(func() { s.w.tell(2, 7, "before the group's interest") }) }
	c, _ := s.connect(1)
	c.pushed("before the group's interest")
	s.w.tell(2, 7, "live")
	c.pushed("live")
}

// The hub has seen the user come back before the session learns that the user had been a member.
func TestWhoLeavesAndComesBackWhileConnectingMissesNothing(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.w.append(s.w.membership(events.GroupCreated, 7, 2, 1, 2))
	witness, _ := s.connect(2)
	s.message.stale = true
	var once sync.Once
	s.message.afterSync = func() {
		once.Do(func() {
			s.w.tell(2, 7, "before it left")
			witness.pushed("before it left")
			for _, move := range []events.Type{events.MemberLeft, events.MemberJoined} {
				e := s.w.membership(move, 7, 1)
				if move == events.MemberJoined {
					e.By = 2
				}
				s.w.append(e)
				require.Equal(t, string(move), witness.read().Push.Type)
			}
		})
	}
	c, _ := s.connect(1)
	c.pushed("before it left")
	require.Equal(t, string(events.MemberLeft), c.read().Push.Type)
	require.Equal(t, string(events.MemberJoined), c.read().Push.Type)
	s.w.tell(2, 7, "live")
	c.pushed("live")
}

func TestWhoJoinsSeesWhatFollowsAndWhoLeavesNothingMore(t *testing.T) {
	s := startSimple(t, connect.Config{})
	owner, _ := s.connect(1)
	member, _ := s.connect(2)
	s.w.append(s.w.membership(events.GroupCreated, 7, 1, 1))
	require.Equal(t, "group_created", owner.read().Push.Type)
	s.w.tell(1, 7, "before")
	joined := s.w.membership(events.MemberJoined, 7, 2)
	joined.By = 1
	s.w.append(joined)
	s.w.tell(1, 7, "between")
	s.w.append(s.w.membership(events.MemberLeft, 7, 2))
	s.w.tell(1, 7, "after")
	stranger := int64(100) // writes into the group's partition, which fixes the order
	for events.Partition(events.Direct(stranger, 2), 4) != events.Partition(events.Group(7), 4) {
		stranger++
	}
	s.w.say(stranger, 2, "direct")
	for _, want := range []string{"member_joined", "new_message between", "member_left", "new_message direct"} {
		f := member.read()
		got := f.Push.Type
		if f.Push.Message != nil {
			got += " " + f.Push.Message.Content
		}
		require.Equal(t, want, got)
	}
}

func TestADissolvedGroupIsLeftByAll(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.w.append(s.w.membership(events.GroupCreated, 7, 1, 1, 2))
	c, _ := s.connect(2)
	s.w.append(s.w.membership(events.GroupDissolved, 7, 1))
	require.Equal(t, "group_dissolved", c.read().Push.Type)
	c.send(`{"id":2,"typing":{"group_id":7}}`)
	require.Equal(t, "not_found", c.read().Error.Code)
}
