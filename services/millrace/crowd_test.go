package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
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
	// sendEvery is the pace of each client.
	sendEvery = 100 * time.Millisecond
	// guestsMove is how long after one guest joined or left the next does.
	guestsMove = 700 * time.Millisecond
	// healing bounds how long the system and its clients may take to be whole again after the last fault.
	healing = 60 * time.Second
)

// talker is a client that sends and journals all it sees.
type talker struct {
	id      int64
	url     string
	journal *oracle.Journal
	client  *client.Client
	network network                     // what its connections run over
	watches *watches                    // that wait for its next message; may be nil
	heard   func(client.Push)           // is told of every push, if set
	left    atomic.Pointer[func(error)] // is told why a connection ended, if set
	diary   diary
	loaded  map[string]bool // messages that history told after too much was missed: they may still come as pushes
	reloads atomic.Int64    // how often it was too much
}

func (k *talker) connect(ctx context.Context) (err error) {
	again := false
	k.client, err = client.Dial(ctx, client.Config{
		URL: k.url, Token: token(k.id), NetDial: k.network.dial,
		OnPush: k.note,
		OnConnect: func(session client.Connected) {
			k.diary.note("connected, recovered %t, complete %t", session.Recovered, session.Complete)
			if !session.Recovered && again {
				k.reload(ctx)
			}
			again = true
		},
		OnDisconnect: func(err error, retryIn time.Duration) {
			k.diary.note("away, again in %s: %v", retryIn, err)
			if left := k.left.Load(); left != nil {
				(*left)(err)
			}
		},
		OnViolation: func(what string) { k.journal.Reported(fmt.Sprintf("user %d: %s", k.id, what)) },
	})
	return err
}

// note journals a push that says something about a conversation.
func (k *talker) note(p client.Push) {
	if k.heard != nil {
		defer k.heard(p)
	}
	pos, err := events.ParsePosition(p.Pos)
	if err != nil && p.Pos != "" {
		k.journal.Reported(err.Error())
	}
	switch p.Type {
	case events.NewMessage:
		if k.loaded[p.Message.MessageID] {
			return
		}
		m := seen(p.Seq, p.Message)
		m.Ahead = p.Pos == ""
		k.journal.Shown(p.Conversation, k.id, m)
		k.watches.shown(k.id, p.Message.ClientMsgID)
	case events.MessageEdited:
		k.journal.Changed(p.Conversation, k.id, pos.Seq, oracle.Change{MessageID: p.MessageID, Content: p.Content})
	case events.MessageRecalled:
		k.journal.Changed(p.Conversation, k.id, pos.Seq, oracle.Change{MessageID: p.MessageID, Recalled: true})
	case events.MemberJoined:
		k.journal.Joined(events.Group(p.GroupID), pos.Seq, p.User)
	case events.MemberLeft:
		k.journal.Left(events.Group(p.GroupID), pos.Seq, p.User)
	}
}

func seen(seq int64, m *events.PushMessage) oracle.Message {
	return oracle.Message{
		ID: m.MessageID, ClientMsgID: m.ClientMsgID, From: m.From, Seq: seq, Content: m.Content, Recalled: m.Recalled,
	}
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
		k.watches.sent(id)
		sending := k.client.Post(ctx, client.Send{Target: target, Content: id, ClientMsgID: id})
		answers.Go(func() error {
			sent, err := sending.Wait()
			if err != nil {
				return fmt.Errorf("send %s: %w", id, err)
			}
			k.journal.Acked(conversation, k.id, id, sent.MessageID)
			k.watches.acked(k.id, id)
			return k.change(ctx, i, conversation, sent.MessageID)
		})
	}
}

// say sends one message and journals it.
func (k *talker) say(ctx context.Context, target client.Target, id string) error {
	conversation := events.Direct(k.id, target.To)
	if target.GroupID != 0 {
		conversation = events.Group(target.GroupID)
	}
	k.journal.Sent(conversation, k.id, id)
	sent, err := k.client.Send(ctx, client.Send{Target: target, Content: id, ClientMsgID: id})
	if err != nil {
		return fmt.Errorf("send %s: %w", id, err)
	}
	k.journal.Acked(conversation, k.id, id, sent.MessageID)
	return nil
}

// change edits some messages, some twice, and recalls others, each change after the one before it was acknowledged.
func (k *talker) change(ctx context.Context, i int, conversation, messageID string) error {
	var changes []oracle.Change
	for edit := range [20]int{3: 1, 5: 2, 7: 1}[i%20] {
		changes = append(changes, oracle.Change{MessageID: messageID, Content: fmt.Sprintf("%d-%d changed %d", k.id, i, edit)})
	}
	if i%20 == 7 || i%20 == 12 {
		changes = append(changes, oracle.Change{MessageID: messageID, Recalled: true})
	}
	for _, change := range changes {
		k.journal.Asked(conversation, change)
		var request client.Request = client.Edit{Conversation: conversation, MessageID: messageID, Content: change.Content}
		if change.Recalled {
			request = client.Recall{Conversation: conversation, MessageID: messageID}
		}
		if err := k.insist(ctx, request); err != nil {
			return fmt.Errorf("change %s: %w", messageID, err)
		}
		k.journal.Agreed(conversation, change)
	}
	return nil
}

// insist asks for it until it is done. A message that was acknowledged exists: any refusal but unavailable is an error.
func (k *talker) insist(ctx context.Context, r client.Request) error {
	return insist(ctx, func() error {
		_, err := k.client.Call(ctx, r)
		return err
	})
}

// insist tries again while the answer is that something is unavailable, as a client should.
func insist(ctx context.Context, try func() error) error {
	for {
		err := try()
		if !errors.Is(err, &client.Error{Code: client.Unavailable}) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(sendEvery):
		}
	}
}

// reload loads all conversations as the protocol wants it of who has missed too much, over a connection of its own:
// nothing newer is shown meanwhile. A gateway that is away is waited for.
func (k *talker) reload(ctx context.Context) {
	for ctx.Err() == nil {
		err := k.reloadOnce(ctx)
		k.diary.note("reloaded: %v", err)
		if err == nil {
			k.reloads.Add(1)
			return
		}
		wait(ctx, sendEvery)
	}
}

func (k *talker) reloadOnce(ctx context.Context) error {
	reader, err := client.Dial(ctx, client.Config{URL: k.url, Token: token(k.id)})
	if err != nil {
		return err
	}
	defer reader.Close()
	heads, err := reader.Conversations(ctx, 0)
	if err != nil {
		return err
	}
	k.loaded = make(map[string]bool)
	for _, head := range heads {
		all, err := wholeHistory(ctx, reader, head.Conversation)
		if err != nil {
			return err
		}
		for _, m := range all {
			k.loaded[m.ID] = true
		}
		k.journal.Reloaded(head.Conversation, k.id, all)
	}
	return nil
}

// history journals a whole conversation as the server tells it.
func (k *talker) history(ctx context.Context, conversation string) error {
	all, err := wholeHistory(ctx, k.client, conversation)
	if err == nil {
		k.journal.History(conversation, all)
	}
	return err
}

func wholeHistory(ctx context.Context, c *client.Client, conversation string) (all []oracle.Message, err error) {
	after := int64(0)
	for {
		var page client.Page
		err := insist(ctx, func() (err error) {
			page, err = c.History(ctx, client.History{Conversation: conversation, AfterSeq: &after, Limit: 200})
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, m := range page.Messages {
			all = append(all, seen(m.Seq, &m.PushMessage))
			after = m.Seq
		}
		if !page.More {
			return all, nil
		}
	}
}

// crowd is clients on both gateways that send to each other and to a group.
type crowd struct {
	t        *testing.T
	talkers  []*talker
	group    int64
	room     string
	journal  *oracle.Journal
	shutUp   context.CancelFunc
	speaking errgroup.Group
	watches  watches
	guests   []*talker // who join and leave the room and say nothing
	moved    int       // how often
}

func startCrowd(ctx context.Context, t *testing.T, gateways []string) *crowd {
	t.Helper()
	c := &crowd{t: t, talkers: make([]*talker, 8), journal: oracle.New()}
	var users []int64
	for i := range c.talkers {
		c.talkers[i] = &talker{id: int64(alice + i), url: gateways[i%len(gateways)], journal: c.journal, watches: &c.watches}
		require.NoError(t, c.talkers[i].connect(ctx))
		users = append(users, c.talkers[i].id)
	}
	c.watches.users = users
	group, err := (&user{Client: c.talkers[0].client}).Group(ctx, client.GroupCreate{Name: "all", Members: users})
	require.NoError(t, err)
	c.group, c.room = group.GroupID, events.Group(group.GroupID)
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
	c.awaitWhole(ctx, "after the faults")
	// Everybody comes back once more, and a last message tells that nothing is behind.
	for _, k := range slices.Concat(c.talkers, c.guests) {
		k.network.cut(0)
	}
	for i, k := range c.talkers {
		for _, target := range []client.Target{client.ToUser(c.peer(i)), client.ToGroup(c.group)} {
			require.NoError(t, k.say(ctx, target, fmt.Sprintf("%d-last", k.id)))
		}
	}
	c.awaitWhole(ctx, "after the last resume")
	for _, k := range c.guests {
		require.NoError(t, k.client.Close())
	}
	for _, k := range c.talkers {
		require.NoError(t, k.client.Close())
	}
	c.judge("in the end")
	t.Logf("%d messages and %d changes acknowledged, stored and shown once to everybody in one order", c.journal.AckedCount(), c.journal.AgreedCount())
}

// awaitWhole waits until everybody has been shown, and the history tells, all that they must. What is still wrong after
// that is for the last check to tell.
func (c *crowd) awaitWhole(ctx context.Context, what string) {
	c.t.Helper()
	begin := time.Now()
	whole := assert.Eventually(c.t, func() bool {
		for i, k := range c.talkers {
			require.NoError(c.t, k.history(ctx, events.Direct(k.id, c.peer(i))))
		}
		require.NoError(c.t, c.talkers[0].history(ctx, c.room))
		return len(c.journal.Check()) == 0
	}, healing, 200*time.Millisecond, what)
	if !whole {
		c.judge(what)
	}
	c.t.Logf("%s: whole after %s", what, time.Since(begin).Round(time.Millisecond))
}

// reloads is how often somebody had missed more than is resumed.
func (c *crowd) reloads() (n int) {
	for _, k := range slices.Concat(c.talkers, c.guests) {
		n += int(k.reloads.Load())
	}
	return n
}

// judge fails the test if a promise was broken: it tells how often each rule was, with an example, and how everybody fared.
func (c *crowd) judge(what string) {
	c.t.Helper()
	violations := c.journal.Check()
	if len(violations) == 0 {
		return
	}
	for rule, broken := range oracle.ByRule(violations) {
		c.t.Errorf("%s: %d times %s, such as: %s", what, len(broken), rule, broken[:min(len(broken), 5)])
	}
	for _, k := range slices.Concat(c.talkers, c.guests) {
		c.t.Logf("user %d on %s: %s", k.id, k.url, &k.diary)
	}
	c.t.FailNow()
}

// welcomeGuests lets users join and leave the room by turns until the traffic ends; they are on both gateways.
func (c *crowd) welcomeGuests(ctx context.Context, gateways []string, until <-chan struct{}) {
	for i, url := range gateways {
		guest := &talker{id: int64(alice + len(c.talkers) + i), url: url, journal: c.journal}
		require.NoError(c.t, guest.connect(ctx))
		c.guests = append(c.guests, guest)
	}
	c.speaking.Go(func() error {
		owner := c.talkers[0]
		for i := 0; ; i++ {
			select {
			case <-until:
				return nil
			case <-time.After(guestsMove):
			}
			guest := c.guests[i%len(c.guests)].id
			var move client.Request = client.GroupAdd{GroupID: c.group, User: guest}
			if i/len(c.guests)%2 == 1 {
				move = client.GroupRemove{GroupID: c.group, User: guest}
			}
			if err := owner.insist(ctx, move); err != nil {
				return fmt.Errorf("%T of %d: %w", move, guest, err)
			}
			c.moved++
		}
	})
}

// repeatOverBoth sends each message over both gateways at once, as its user and peer of a conversation of their own.
func (c *crowd) repeatOverBoth(ctx context.Context, gateways []string, nth int, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d+healing)
	defer cancel()
	until := time.Now().Add(d)
	k := &talker{id: int64(alice + 100 + nth), journal: c.journal, url: gateways[0]}
	conversation := events.Direct(k.id, k.id)
	c.journal.Members(conversation, k.id)
	if err := k.connect(ctx); err != nil {
		return nil // the gateway is away
	}
	defer k.client.Close()
	other, err := client.Dial(ctx, client.Config{URL: gateways[1], Token: token(k.id)})
	if err != nil {
		return nil
	}
	defer other.Close()
	for i := 0; time.Now().Before(until); i++ {
		id := fmt.Sprintf("%d-%d", k.id, i)
		c.journal.Sent(conversation, k.id, id)
		var both errgroup.Group
		for _, over := range []*client.Client{k.client, other} {
			both.Go(func() error {
				sent, err := over.Send(ctx, client.Send{Target: client.ToUser(k.id), Content: id, ClientMsgID: id})
				if err == nil {
					c.journal.Acked(conversation, k.id, id, sent.MessageID)
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

// untilWhole journals a conversation's history until it has all that was acknowledged and all of that was shown.
func (k *talker) untilWhole(ctx context.Context, conversation string) error {
	for ctx.Err() == nil {
		if err := k.history(ctx, conversation); err != nil {
			return err
		}
		if k.journal.MissingIn(conversation) == 0 {
			return nil
		}
		wait(ctx, sendEvery)
	}
	return fmt.Errorf("%s is not whole: %w", conversation, ctx.Err())
}
