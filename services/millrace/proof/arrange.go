package proof

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
)

// rearranged is the time between two changes of the room's name or of somebody's settings.
const rearranged = 400 * time.Millisecond

// arrangement is what a crowd has set besides its messages. One goroutine changes it while there is traffic.
type arrangement struct {
	renamed  int                       // how often the room was; its name has the number
	settings map[int64]client.Settings // by user, of its direct conversation
}

func roomName(n int) string { return fmt.Sprintf("room %d", n) }

// arrange makes the owner rename the room, and the talkers in turn change settings, until the traffic ends.
func (c *Crowd) arrange(ctx context.Context, until <-chan struct{}) {
	c.arranged.settings = map[int64]client.Settings{}
	c.speaking.Go(func() error {
		for i := 0; ; i++ {
			select {
			case <-until:
				return nil
			case <-time.After(rearranged):
			}
			c.silence.RLock()
			var err error
			if n := i / 2; i%2 == 0 {
				err = c.Talkers[0].insist(ctx, client.GroupRename{
					GroupID: c.group, Name: roomName(n + 1), ClientMsgID: fmt.Sprintf("rename %d", n),
				})
				c.arranged.renamed = n + 1
			} else {
				err = c.set(ctx, n)
			}
			c.silence.RUnlock()
			if err != nil {
				return fmt.Errorf("rearrange for the time %d: %w", i, err)
			}
		}
	})
}

// set makes the talker whose turn it is change what it has set for its direct conversation.
func (c *Crowd) set(ctx context.Context, n int) error {
	turn := n % len(c.Talkers)
	k := c.Talkers[turn]
	pinned, muted := n/len(c.Talkers)%2 == 0, int64(2_000_000_000+n)
	r := client.Settings{Conversation: events.Direct(k.ID, c.peer(turn)), Settings: events.Settings{Pinned: &pinned, MutedUntil: &muted}}
	c.arranged.settings[k.ID] = r
	return k.insist(ctx, r)
}

// requireArranged requires that everybody sees what was set last.
func (c *Crowd) requireArranged(ctx context.Context) {
	t := c.t
	t.Helper()
	if c.arranged.settings == nil {
		return
	}
	require.Positive(t, c.arranged.renamed)
	require.NotEmpty(t, c.arranged.settings)
	want := roomName(c.arranged.renamed)
	for _, k := range c.Talkers {
		group, err := (&User{Client: k.Client}).Group(ctx, client.GroupInfo{GroupID: c.group})
		require.NoError(t, err)
		require.Equal(t, want, group.Name, "as the server has it")
		require.Equal(t, want, roomName(int(k.room.Load())), "as user %d was told", k.ID)
		set, ok := c.arranged.settings[k.ID]
		if !ok {
			continue
		}
		heads, err := k.Client.Conversations(ctx, client.Conversations{})
		require.NoError(t, err)
		for _, head := range heads.Conversations {
			if head.Conversation == set.Conversation {
				require.Equal(t, *set.Pinned, head.Pinned, "user %d", k.ID)
				require.Equal(t, *set.MutedUntil, head.MutedUntil, "user %d", k.ID)
			}
		}
	}
}

// called notes the name of a room. Pushes that come while older ones are missing may be newer than those that follow.
func (k *talker) called(name string) {
	var n int64
	if _, err := fmt.Sscanf(name, "room %d", &n); err == nil {
		k.room.Store(max(n, k.room.Load()))
	}
}
