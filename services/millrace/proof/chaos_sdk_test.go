package proof

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

const (
	// sdkFirst is the first of two users of the SDK in a crowd.
	sdkFirst = Alice + 50
	// sdkReloads is after how many sends one of them is loaded again.
	sdkReloads = 60
)

// sdkPair is two users of the TypeScript SDK in a crowd, each in a process of its own on another gateway, whose connections are
// cut all the time. They talk to each other and in a group. One after the other is loaded again in the midst of it, and goes on
// with what its outbox has kept.
type sdkPair struct {
	users         []*sdkUser
	proxies       []*frameProxy
	conversations []string
	reader        *client.Client
	journal       *oracle.Journal
	silence       *sync.RWMutex
}

// joinSDK adds a pair to the crowd and lets it talk until the traffic ends. It returns nil if something is lacking to run one.
func (c *Crowd) joinSDK(ctx context.Context, gateways []string, until <-chan struct{}) *sdkPair {
	t := c.t
	t.Helper()
	command, lacking := findNode(t)
	if lacking != "" {
		t.Log("without the SDK: " + lacking)
		return nil
	}
	command = append(command, buildDriver(t))
	reader, err := client.Dial(ctx, client.Config{URL: gateways[0], Token: Token(sdkFirst)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	group, err := (&User{Client: reader}).Group(ctx, client.GroupCreate{Name: "SDK", Members: []int64{sdkFirst + 1}})
	require.NoError(t, err)
	p := &sdkPair{
		conversations: []string{events.Direct(sdkFirst, sdkFirst+1), events.Group(group.GroupID)},
		reader:        reader, journal: c.Journal, silence: &c.silence,
	}
	for _, name := range p.conversations {
		c.Journal.Members(name, sdkFirst, sdkFirst+1)
	}
	for i, gateway := range gateways[:2] {
		id := int64(sdkFirst + i)
		proxy, url := startFrameProxy(t, gateway, uint64(i))
		token, err := Token(id)(ctx)
		require.NoError(t, err)
		u := &sdkUser{
			t: t, id: id, journal: c.Journal, conversations: p.conversations, ids: map[string]string{}, kept: map[string]bool{},
			asked: map[int]func(){}, snapshots: make(chan sdkSnapshot, 1),
			command: append(command[:len(command):len(command)], url, strconv.FormatInt(id, 10), token, t.TempDir()),
		}
		u.start(ctx)
		t.Cleanup(u.kill)
		p.users, p.proxies = append(p.users, u), append(p.proxies, proxy)
	}
	for _, u := range p.users {
		u.awaitConnected()
	}
	c.others = append(c.others, p.history)
	c.speaking.Go(func() error { return p.talk(ctx, until) })
	return p
}

// talk has the users send in turn until the traffic ends, and returns when all that they have sent is accepted.
func (p *sdkPair) talk(ctx context.Context, until <-chan struct{}) error {
	var answers errgroup.Group
	ticker := time.NewTicker(sendEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
		case <-until:
			err := answers.Wait()
			for _, proxy := range p.proxies {
				proxy.calm.Store(true)
			}
			return err
		}
		p.silence.RLock()
		accepted, err := p.post(n)
		if err == nil && n%sdkReloads == sdkReloads/2 {
			u := p.users[n/sdkReloads%2]
			u.kill()
			err = u.run(ctx)
		}
		if err != nil {
			p.silence.RUnlock()
			return fmt.Errorf("users of the SDK: %w", err)
		}
		answers.Go(func() error {
			defer p.silence.RUnlock()
			return accepted(ctx)
		})
	}
}

// post has each user post its nth message, and returns a function that waits until both are accepted.
func (p *sdkPair) post(n int) (accepted func(context.Context) error, err error) {
	var waits []func(context.Context) error
	for i, u := range p.users {
		killed := u.timesKilled()
		id, err := u.post(n, p.conversations[(n+i)%2])
		if err != nil {
			return nil, err
		}
		waits = append(waits, func(ctx context.Context) error { return u.untilAccepted(ctx, id, killed) })
	}
	return func(ctx context.Context) error {
		for _, wait := range waits {
			if err := wait(ctx); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// history notes what the server has of the pair's conversations.
func (p *sdkPair) history(ctx context.Context) error {
	for _, name := range p.conversations {
		all, err := wholeHistory(ctx, p.reader, name)
		if err != nil {
			return err
		}
		p.journal.History(name, all)
	}
	return nil
}

// end checks that what the users see in the end is the history.
func (p *sdkPair) end(ctx context.Context, t *testing.T) {
	t.Helper()
	awaitShown(ctx, t, p.users, p.reader, p.journal, p.conversations)
	missed := 0
	for _, u := range p.users {
		missed += u.missed
		u.end()
	}
	require.NoError(t, p.reader.Close())
	t.Logf("the SDK: %d messages accepted, over connections that were cut %d times; it was loaded again %d times, and had missed too much %d times",
		len(p.users[0].ids)+len(p.users[1].ids), p.proxies[0].cuts.Load()+p.proxies[1].cuts.Load(),
		p.users[0].timesKilled()+p.users[1].timesKilled(), missed)
}
