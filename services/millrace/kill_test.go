package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/oracle"
)

const (
	// killTraffic is for how long clients send while processes are killed.
	killTraffic = 20 * time.Second
	// sendEvery is the pace of each client.
	sendEvery = 100 * time.Millisecond
	// healing bounds how long the system and its clients may take to be whole again after the last fault.
	healing = 60 * time.Second
)

// talker is a client that sends and journals all it sees.
type talker struct {
	id      int64
	url     string
	journal *oracle.Journal
	client  *client.Client
}

func (k *talker) connect(ctx context.Context, cursor client.Cursor) (err error) {
	k.client, err = client.Dial(ctx, client.Config{
		URL: k.url, Token: token(k.id), Cursor: cursor,
		OnPush: func(p client.Push) {
			if p.Type == events.NewMessage {
				k.journal.Shown(p.Conversation, k.id, seen(p.Seq, p.Message))
			}
		},
		OnViolation: func(what string) { k.journal.Reported(fmt.Sprintf("user %d: %s", k.id, what)) },
	})
	return err
}

func seen(seq int64, m *events.PushMessage) oracle.Message {
	return oracle.Message{ID: m.MessageID, ClientMsgID: m.ClientMsgID, From: m.From, Seq: seq}
}

// talk sends by turns to the targets until the time is over, and returns when all is answered.
func (k *talker) talk(ctx context.Context, targets []client.Target, until <-chan struct{}) error {
	var answers errgroup.Group
	ticker := time.NewTicker(sendEvery)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ticker.C:
		case <-until:
			return answers.Wait()
		}
		target := targets[i%len(targets)]
		conversation := events.Direct(k.id, target.To)
		if target.GroupID != 0 {
			conversation = events.Group(target.GroupID)
		}
		id := fmt.Sprintf("%d-%d", k.id, i)
		k.journal.Sent(conversation, k.id, id)
		sending := k.client.Post(ctx, client.Send{Target: target, Content: id, ClientMsgID: id})
		answers.Go(func() error {
			sent, err := sending.Wait()
			if err != nil {
				return fmt.Errorf("send %s: %w", id, err)
			}
			k.journal.Acked(conversation, k.id, id, sent.MessageID)
			return nil
		})
	}
}

// history journals a whole conversation as the server tells it.
func (k *talker) history(ctx context.Context, conversation string) error {
	var all []oracle.Message
	after := int64(0)
	for {
		page, err := k.client.History(ctx, client.History{Conversation: conversation, AfterSeq: &after, Limit: 200})
		if err != nil {
			return err
		}
		for _, m := range page.Messages {
			all = append(all, seen(m.Seq, &m.PushMessage))
			after = m.Seq
		}
		if !page.More {
			k.journal.History(conversation, all)
			return nil
		}
	}
}

// crowd is clients on both gateways that send to each other and to a group.
type crowd struct {
	t        *testing.T
	talkers  []*talker
	room     string
	journal  *oracle.Journal
	shutUp   context.CancelFunc
	speaking errgroup.Group
}

func startCrowd(ctx context.Context, t *testing.T, gateways []string) *crowd {
	t.Helper()
	c := &crowd{t: t, talkers: make([]*talker, 8), journal: oracle.New()}
	var users []int64
	for i := range c.talkers {
		c.talkers[i] = &talker{id: int64(alice + i), url: gateways[i%len(gateways)], journal: c.journal}
		require.NoError(t, c.talkers[i].connect(ctx, nil))
		users = append(users, c.talkers[i].id)
	}
	group, err := c.talkers[0].client.Group(ctx, client.GroupCreate{Name: "all", Members: users})
	require.NoError(t, err)
	c.room = events.Group(group.GroupID)
	c.journal.Members(c.room, users...)

	traffic, shutUp := context.WithCancel(ctx)
	c.shutUp = shutUp
	for i, k := range c.talkers {
		peer := c.peer(i)
		c.journal.Members(events.Direct(k.id, peer), k.id, peer)
		c.speaking.Go(func() error {
			return k.talk(ctx, []client.Target{client.ToUser(peer), client.ToGroup(group.GroupID)}, traffic.Done())
		})
	}
	return c
}

// peer is the neighbour of a talker, who is on the other gateway.
func (c *crowd) peer(i int) int64 { return c.talkers[i^1].id }

// goesOn waits until more messages have been acknowledged.
func (c *crowd) goesOn(what string) {
	c.t.Helper()
	const more = 200
	before, begin := c.journal.AckedCount(), time.Now()
	require.Eventually(c.t, func() bool { return c.journal.AckedCount() >= before+more }, healing, 10*time.Millisecond, what)
	c.t.Logf("%s: %d acknowledged, %d more after %s", what, c.journal.AckedCount(), more, time.Since(begin).Round(time.Millisecond))
}

// end ends the traffic, lets everybody come back once more, and holds what they saw against the history: nothing may be
// lost, doubled or out of order.
func (c *crowd) end(ctx context.Context) {
	t := c.t
	t.Helper()
	c.shutUp()
	require.NoError(t, c.speaking.Wait())
	for _, k := range c.talkers {
		// The cursor goes with what was shown, so it is taken when nothing more is.
		require.NoError(t, k.client.Close())
		require.NoError(t, k.connect(ctx, k.client.Cursor()))
	}
	assert.Eventually(t, func() bool { return c.journal.Missing() == 0 }, healing, 50*time.Millisecond,
		"acknowledged messages do not arrive")
	assert.Eventually(t, func() bool {
		for i, k := range c.talkers {
			require.NoError(t, k.history(ctx, events.Direct(k.id, c.peer(i))))
		}
		require.NoError(t, c.talkers[0].history(ctx, c.room))
		return c.journal.Unstored() == 0
	}, healing, 100*time.Millisecond, "acknowledged messages are not stored")
	for _, k := range c.talkers {
		require.NoError(t, k.client.Close())
	}
	violations := c.journal.Check()
	require.Empty(t, violations[:min(len(violations), 20)], "%d violations", len(violations))
	t.Logf("%d messages acknowledged, stored and shown once to everybody in one order", c.journal.AckedCount())
}

// Every process is killed once. Afterwards nothing may be lost, doubled or out of order, and every process must stop in
// order.
func TestNothingIsLostDoubledOrDisorderedWhenEachProcessIsKilledOnce(t *testing.T) {
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), killTraffic+2*healing)
	defer cancel()
	crowd := startCrowd(ctx, t, c.gateways)
	pause := time.NewTicker(killTraffic / 7)
	defer pause.Stop()
	for _, name := range []string{"message-1", "connect-1", "worker", "message-2", "broker", "connect-2"} {
		<-pause.C
		t.Logf("%d acknowledged; kill %s", crowd.journal.AckedCount(), name)
		p := c.named(name)
		p.kill()
		p.start(t)
	}
	<-pause.C
	crowd.end(ctx)
	require.Greater(t, crowd.journal.AckedCount(), 1000)
	c.stopAll()
}
