package proof

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

const (
	// sendEvery is the time between two sends of a client.
	sendEvery = 100 * time.Millisecond
	// guestsMove is the time between one guest's joining or leaving and the next's.
	guestsMove = 700 * time.Millisecond
	// Healing bounds how long after the last fault the system and its clients may take to be whole again.
	Healing = 60 * time.Second
)

// Crowd is a set of clients on both gateways that send to each other and to a group.
type Crowd struct {
	t        *testing.T
	Talkers  []*talker
	group    int64
	Room     string
	Journal  *oracle.Journal
	shutUp   context.CancelFunc
	speaking errgroup.Group
	watches  watches
	guests   []*talker                     // who join and leave the room and say nothing
	others   []func(context.Context) error // each notes the histories of further users
	moved    int                           // how often
	arranged arrangement

	// silence is held for reading from each send until everything that it leads to is acknowledged.
	silence sync.RWMutex
}

// StartCrowd connects eight users in turn to the gateways, puts them into a group and lets them send until Crowd.End.
func StartCrowd(ctx context.Context, t *testing.T, gateways []string) *Crowd {
	t.Helper()
	return startCrowd(ctx, t, gateways, false)
}

// startCrowd is like [StartCrowd] for message nodes with or without the rules of [writeRules].
func startCrowd(ctx context.Context, t *testing.T, gateways []string, ruled bool) *Crowd {
	t.Helper()
	c := &Crowd{t: t, Talkers: make([]*talker, 8), Journal: oracle.New()}
	var users []int64
	for i := range c.Talkers {
		c.Talkers[i] = &talker{
			ID: int64(Alice + i), url: gateways[i%len(gateways)], journal: c.Journal, watches: &c.watches, silence: &c.silence, ruled: ruled,
		}
		require.NoError(t, c.Talkers[i].connect(ctx))
		users = append(users, c.Talkers[i].ID)
	}
	c.watches.users = users
	group, err := (&User{Client: c.Talkers[0].Client}).Group(ctx, client.GroupCreate{Name: "all", Members: users})
	require.NoError(t, err)
	c.group, c.Room = group.GroupID, events.Group(group.GroupID)
	c.Journal.Members(c.Room, users...)

	traffic, shutUp := context.WithCancel(ctx)
	c.shutUp = shutUp
	for i, k := range c.Talkers {
		peer := c.peer(i)
		c.Journal.Members(events.Direct(k.ID, peer), k.ID, peer)
		c.speaking.Go(func() error {
			return k.talk(ctx, []client.Target{client.ToUser(peer), client.ToGroup(group.GroupID)}, traffic.Done())
		})
	}
	return c
}

// peer is the neighbour of a talker, who is on the other gateway.
func (c *Crowd) peer(i int) int64 { return c.Talkers[i^1].ID }

// GoesOn waits until more messages were acknowledged.
func (c *Crowd) GoesOn(what string) {
	c.t.Helper()
	const more = 200
	before, begin := c.Journal.AckedCount(), time.Now()
	require.Eventually(c.t, func() bool { return c.Journal.AckedCount() >= before+more }, Healing, 10*time.Millisecond, what)
	c.t.Logf("%s: %d acknowledged, %d more after %s", what, c.Journal.AckedCount(), more, time.Since(begin).Round(time.Millisecond))
}

// End ends the traffic, lets everybody reconnect once more, and compares what they saw with the history: nothing may be lost,
// doubled or out of order.
func (c *Crowd) End(ctx context.Context) {
	t := c.t
	t.Helper()
	c.shutUp()
	require.NoError(t, c.speaking.Wait())
	c.awaitWhole(ctx, "after the faults")
	// Everybody reconnects once more, and a last message shows that nothing comes late.
	for _, k := range slices.Concat(c.Talkers, c.guests) {
		k.network.cut(0)
	}
	for i, k := range c.Talkers {
		for _, target := range []client.Target{client.ToUser(c.peer(i)), client.ToGroup(c.group)} {
			require.NoError(t, k.Say(ctx, target, fmt.Sprintf("%d-last", k.ID)))
		}
	}
	c.awaitWhole(ctx, "after the last resume")
	c.requireArranged(ctx)
	for _, k := range c.guests {
		require.NoError(t, k.Client.Close())
	}
	for _, k := range c.Talkers {
		require.NoError(t, k.Client.Close())
	}
	c.judge("in the end")
	t.Logf("%d messages and %d changes acknowledged, stored and shown once to everybody in one order", c.Journal.AckedCount(), c.Journal.AgreedCount())
}

// hush waits until nobody speaks and everything is stored and shown to everybody. Nobody speaks until the function that it
// returns is called. If somebody gets no answer for too long, hush fails the test and tells what the system lacks.
func (c *Crowd) hush(ctx context.Context, lacks func() string) (speak func(), err error) {
	stuck := time.AfterFunc(Healing, func() {
		var waiting strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&waiting, 1)
		c.t.Errorf("somebody has had no answer for %s: %s\n%s", Healing, lacks(), waiting.String())
	})
	c.silence.Lock()
	stuck.Stop()
	var violations []oracle.Violation
	for begin := time.Now(); time.Since(begin) < Healing && ctx.Err() == nil; Wait(ctx, sendEvery) {
		if violations, err = c.check(ctx); err != nil || len(violations) == 0 {
			break
		}
	}
	if err == nil && len(violations) > 0 {
		err = fmt.Errorf("before a loss %d times: %s", len(violations), violations[0])
	}
	if err != nil {
		c.silence.Unlock()
		return nil, err
	}
	return c.silence.Unlock, nil
}

// check reads the histories and returns what is not as it must be.
func (c *Crowd) check(ctx context.Context) ([]oracle.Violation, error) {
	for i, k := range c.Talkers {
		if err := k.History(ctx, events.Direct(k.ID, c.peer(i))); err != nil {
			return nil, err
		}
	}
	if err := c.Talkers[0].History(ctx, c.Room); err != nil {
		return nil, err
	}
	for _, note := range c.others {
		if err := note(ctx); err != nil {
			return nil, err
		}
	}
	return c.Journal.Check(), nil
}

// awaitWhole waits until everybody has got, and the history has, everything that they must. What is still wrong after that is
// reported by the last check.
func (c *Crowd) awaitWhole(ctx context.Context, what string) {
	c.t.Helper()
	begin := time.Now()
	whole := assert.Eventually(c.t, func() bool {
		violations, err := c.check(ctx)
		require.NoError(c.t, err)
		return len(violations) == 0
	}, Healing, 200*time.Millisecond, what)
	if !whole {
		c.judge(what)
	}
	c.t.Logf("%s: whole after %s", what, time.Since(begin).Round(time.Millisecond))
}

// reloads returns how often somebody had missed more than can be resumed.
func (c *Crowd) reloads() (n int) {
	for _, k := range slices.Concat(c.Talkers, c.guests) {
		n += int(k.reloads.Load())
	}
	return n
}

// judge fails the test if a promise was broken. It reports how often each rule was broken, with an example, and what happened
// to everybody.
func (c *Crowd) judge(what string) {
	c.t.Helper()
	violations := c.Journal.Check()
	if len(violations) == 0 {
		return
	}
	for rule, broken := range oracle.ByRule(violations) {
		c.t.Errorf("%s: %d times %s, such as: %s", what, len(broken), rule, broken[:min(len(broken), 5)])
	}
	for _, k := range slices.Concat(c.Talkers, c.guests) {
		c.t.Logf("user %d on %s: %s", k.ID, k.url, &k.diary)
	}
	c.t.FailNow()
}

// welcomeGuests makes users join and leave the room in turn until the traffic ends. They are on both gateways.
func (c *Crowd) welcomeGuests(ctx context.Context, gateways []string, until <-chan struct{}) {
	for i, url := range gateways {
		guest := &talker{ID: int64(Alice + len(c.Talkers) + i), url: url, journal: c.Journal}
		require.NoError(c.t, guest.connect(ctx))
		c.guests = append(c.guests, guest)
	}
	c.speaking.Go(func() error {
		owner := c.Talkers[0]
		for i := 0; ; i++ {
			select {
			case <-until:
				return nil
			case <-time.After(guestsMove):
			}
			c.silence.RLock()
			guest := c.guests[i%len(c.guests)].ID
			var move client.Request = client.GroupAdd{GroupID: c.group, User: guest}
			if i/len(c.guests)%2 == 1 {
				move = client.GroupRemove{GroupID: c.group, User: guest}
			}
			err := owner.insist(ctx, move)
			c.silence.RUnlock()
			if err != nil {
				return fmt.Errorf("%T of %d: %w", move, guest, err)
			}
			c.moved++
		}
	})
}

// repeatOverBoth sends each message over both gateways at once, as its user and peer of a conversation of their own.
func (c *Crowd) repeatOverBoth(ctx context.Context, gateways []string, nth int, d time.Duration) error {
	c.silence.RLock()
	defer c.silence.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, d+Healing)
	defer cancel()
	until := time.Now().Add(d)
	k := &talker{ID: int64(Alice + 100 + nth), journal: c.Journal, url: gateways[0]}
	conversation := events.Direct(k.ID, k.ID)
	c.Journal.Members(conversation, k.ID)
	if err := k.connect(ctx); err != nil {
		return nil // the gateway is away
	}
	defer k.Client.Close()
	other, err := client.Dial(ctx, client.Config{URL: gateways[1], Token: Token(k.ID)})
	if err != nil {
		return nil
	}
	defer other.Close()
	for i := 0; time.Now().Before(until); i++ {
		id := fmt.Sprintf("%d-%d", k.ID, i)
		c.Journal.Sent(conversation, oracle.Message{From: k.ID, ClientMsgID: id, Content: id})
		var both errgroup.Group
		for _, over := range []*client.Client{k.Client, other} {
			both.Go(func() error {
				sent, err := over.Send(ctx, client.Send{Target: client.ToUser(k.ID), Content: id, ClientMsgID: id})
				if err == nil {
					c.Journal.Acked(conversation, k.ID, id, sent.MessageID)
				}
				return err
			})
		}
		if err := both.Wait(); err != nil {
			return fmt.Errorf("send %s over both: %w", id, err)
		}
	}
	return k.untilWhole(ctx, conversation)
}
