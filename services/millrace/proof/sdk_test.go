package proof

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

// Task conformance runs TestTheSDK with more seeds.
var sdkSeeds = flag.Uint64("sdk.seeds", 3, "runs of the SDK's conformance test, each with the next seed")

const (
	sdkSends = 60 // of each user
	sdkPace  = 25 * time.Millisecond
	// sdkFlood is more than a client may have missed to be resumed.
	sdkFlood = 1100
)

// Two users of the TypeScript SDK, each in a Node process of its own behind a proxy that delays, doubles and cuts, talk to each
// other and, with a third one, in a group. One of them is killed in the midst of it and goes on with the outbox that it has
// kept; with some seeds the other one is away for so long that it has to load everything again. In the end nothing may be
// lost, doubled or out of order, and what the SDK shows must be the history.
func TestTheSDK(t *testing.T) {
	t.Parallel()
	command := append(node(t), buildDriver(t))
	dir := t.TempDir()
	free := FreeAddresses(t, 4)
	dev := &process{name: "dev", ready: readyURL(free[3]), log: filepath.Join(dir, "dev.log"), args: []string{
		"dev", "--data-dir=" + dir, "--jwt-secret=" + Secret, "--log-level=warn", "--embedded-kafka-addr=" + free[0],
		"--connect-addr=" + free[1], "--message-addr=" + free[2], "--admin-addr=" + free[3],
	}}
	dev.start(t)
	t.Cleanup(dev.kill)
	dev.awaitReady(t)
	for seed := range *sdkSeeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runSDK(t, command, "ws://"+free[1]+"/ws", seed) })
	}
	dev.stop(t)
}

func runSDK(t *testing.T, command []string, gateway string, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*Healing)
	defer cancel()
	first := int64(1_000_000 + 10*seed)
	journal := oracle.New()
	third := &talker{ID: first + 2, url: gateway, journal: journal}
	require.NoError(t, third.connect(ctx))
	defer third.Client.Close()
	group, err := (&User{Client: third.Client}).Group(ctx, client.GroupCreate{Name: "all", Members: []int64{first, first + 1}})
	require.NoError(t, err)
	direct, room := events.Direct(first, first+1), events.Group(group.GroupID)
	conversations := []string{direct, room}
	journal.Members(direct, first, first+1)
	journal.Members(room, first, first+1, first+2)

	// Somebody has to see the position of every change, also of one that both users load with the history.
	witness, err := client.Dial(ctx, client.Config{URL: gateway, Token: Token(first), OnPush: func(p client.Push) {
		noteChange(journal, 0, p)
	}})
	require.NoError(t, err)
	defer witness.Close()

	var users []*sdkUser
	var proxies []*frameProxy
	for i := range int64(2) {
		proxy, url := startFrameProxy(t, gateway, 2*seed+uint64(i))
		token, err := Token(first + i)(ctx)
		require.NoError(t, err)
		u := &sdkUser{
			t: t, id: first + i, journal: journal, conversations: conversations, ids: map[string]string{}, kept: map[string]bool{},
			asked: map[int]func(){}, snapshots: make(chan sdkSnapshot, 1),
			command: append(command[:len(command):len(command)], url, strconv.FormatInt(first+i, 10), token, t.TempDir()),
		}
		u.start(ctx)
		defer u.kill()
		users, proxies = append(users, u), append(proxies, proxy)
	}

	for _, u := range users {
		u.awaitConnected()
	}
	away := seed%3 == 1
	for n := range sdkSends {
		for i, u := range users {
			u.send(n, conversations[(n+i)%2])
			if n%4 == 3 && n >= 10 {
				u.change(n-10, conversations[(n-10+i)%2], n%8 == 7)
			}
		}
		if n%5 == 0 {
			require.NoError(t, third.Say(ctx, client.ToGroup(group.GroupID), fmt.Sprintf("%d-%d", third.ID, n)))
		}
		switch {
		case n == sdkSends/3:
			users[0].kill()
			users[0].start(ctx)
		case n == sdkSends/2 && away:
			users[1].tell(map[string]any{"offline": true})
			flood(ctx, t, third, group.GroupID)
			users[1].tell(map[string]any{"offline": false})
		}
		Wait(ctx, sdkPace)
	}
	for _, p := range proxies {
		p.calm.Store(true)
	}
	awaitShown(ctx, t, users, witness, journal, conversations)
	if away {
		require.Positive(t, users[1].missed, "it was away for so long that it has to load everything again")
	}
	for _, u := range users {
		u.end()
	}
	t.Logf("%d messages and %d changes acknowledged over connections that were cut %d times, %d frames doubled",
		journal.AckedCount(), journal.AgreedCount(), proxies[0].cuts.Load()+proxies[1].cuts.Load(),
		proxies[0].doubled.Load()+proxies[1].doubled.Load())
}

// flood sends more than a client may have missed.
func flood(ctx context.Context, t *testing.T, k *talker, group int64) {
	t.Helper()
	var last *client.Sending
	for i := range sdkFlood {
		id := fmt.Sprintf("%d-flood-%d", k.ID, i)
		k.journal.Sent(events.Group(group), oracle.Message{From: k.ID, ClientMsgID: id, Content: id})
		last = k.Client.Post(ctx, client.Send{Target: client.ToGroup(group), Content: id, ClientMsgID: id})
	}
	_, err := last.Wait()
	require.NoError(t, err)
}

// awaitShown waits until everything is answered, and what the users show is the history, in which everything is that they must
// have. If it never is, it says why not.
func awaitShown(
	ctx context.Context, t *testing.T, users []*sdkUser, reader *client.Client, journal *oracle.Journal, conversations []string,
) {
	t.Helper()
	var wrong string
	for begin := time.Now(); time.Since(begin) < Healing && ctx.Err() == nil; Wait(ctx, sendEvery) {
		if wrong = notShown(ctx, t, users, reader, journal, conversations); wrong == "" {
			return
		}
	}
	for _, u := range users {
		t.Logf("user %d: %s", u.id, &u.diary)
	}
	require.FailNow(t, "not whole", wrong)
}

func notShown(
	ctx context.Context, t *testing.T, users []*sdkUser, reader *client.Client, journal *oracle.Journal, conversations []string,
) string {
	t.Helper()
	stored := map[string]bool{}
	for _, name := range conversations {
		history, err := wholeHistory(ctx, reader, name)
		require.NoError(t, err)
		journal.History(name, slices.Clone(history))
		for _, m := range history {
			stored[m.ClientMsgID] = true
		}
		for _, u := range users {
			if n := u.unanswered(); n > 0 {
				return fmt.Sprintf("%d changes of user %d are not answered", n, u.id)
			}
			got := u.shows(name)
			if got.Unplaced > 0 || len(got.Messages) != len(history) {
				return fmt.Sprintf("user %d shows %d messages of %s and %d more without a place, the history has %d",
					u.id, len(got.Messages), name, got.Unplaced, len(history))
			}
			for i, m := range got.Messages {
				if shown := seen(m.Seq, &m.PushMessage); shown.Seq != history[i].Seq || shown.ID != history[i].ID ||
					!shown.Recalled && shown != history[i] || shown.Recalled != history[i].Recalled {
					return fmt.Sprintf("user %d shows %+v where the history of %s has %+v", u.id, shown, name, history[i])
				}
			}
		}
	}
	if violations := journal.Check(); len(violations) > 0 {
		return fmt.Sprintf("%d times: %s", len(violations), violations[0])
	}
	return keptAndLost(users, stored)
}

// keptAndLost names a send that was in an outbox and was never accepted.
func keptAndLost(users []*sdkUser, stored map[string]bool) string {
	for _, u := range users {
		u.mu.Lock()
		for id := range u.kept {
			if u.ids[id] == "" && !stored[id] {
				u.mu.Unlock()
				return fmt.Sprintf("user %d had %s in its outbox, and it was never accepted", u.id, id)
			}
		}
		u.mu.Unlock()
	}
	return ""
}
