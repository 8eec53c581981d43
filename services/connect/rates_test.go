package connect

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Every verb has a limit, except a ping and the verbs that make the session, which the limit of frames covers.
func TestEveryVerbIsLimitedPerUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sendRate = 10
		burst := map[class]int{sends: sendRate, changes: changeRate, queries: queryRate, signals: signalRate}
		for _, verb := range []string{
			"refresh", "send", "history", "conversations", "read", "recall", "edit", "typing", "presence", "group_create", "group_join",
			"group_leave", "group_add", "group_remove", "group_info", "group_rename", "group_dissolve", "group_role", "group_mute", "readers", "settings",
			"push_subscribe", "push_unsubscribe",
			"block", "unblock", "blocked",
		} {
			require.True(t, knownVerb(verb))
			r := &rates{sends: sendRate, connections: 2, users: map[int64]*userRate{}}
			one, refused := r.join(1001, "")
			require.Nil(t, refused)
			two, refused := r.join(1001, "")
			require.Nil(t, refused)
			other, refused := r.join(1002, "")
			require.Nil(t, refused)

			c, limited := classOf(verb)
			require.True(t, limited, verb)
			for range burst[c] {
				require.Nil(t, one.allow(c), verb)
			}
			refused = two.allow(c)
			require.NotNil(t, refused, "%s on another connection of the user", verb)
			require.Equal(t, codeRateLimited, refused.Code)
			require.Contains(t, refused.Message, c.String())
			require.Nil(t, other.allow(c), "%s of another user", verb)
			time.Sleep(time.Second)
			require.Nil(t, two.allow(c), "%s a second later", verb)
		}
	})
}

func TestAUserHasABoundedNumberOfConnections(t *testing.T) {
	r := &rates{sends: 1, connections: 2, users: map[int64]*userRate{}}
	join := func(device string) *refusal {
		_, refused := r.join(1001, device)
		return refused
	}
	require.Nil(t, join("phone"))
	require.Nil(t, join(""))
	refused := join("web")
	require.NotNil(t, refused)
	require.Equal(t, codeRateLimited, refused.Code)
	require.NotNil(t, join(""))
	require.Nil(t, join("phone"), "it takes the place of the device's older connection")
	r.leave(1001, "phone")
	require.NotNil(t, join("web"))
	r.leave(1001, "phone")
	require.Nil(t, join("web"))
	r.leave(1001, "")
	r.leave(1001, "web")
	require.Empty(t, r.users, "nothing is kept of who has left")
}
