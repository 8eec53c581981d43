package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
)

const (
	// disputed is the time between two rounds of a dispute.
	disputed = 300 * time.Millisecond
	// forever is a time until which somebody is muted, in Unix seconds.
	forever = 2_000_000_000
	// disputeFirst is the first of the two users who dispute, on another gateway each.
	disputeFirst = Alice + 60
)

// dispute is what two users do to each other while there is traffic: the first one blocks and unblocks the second, mutes it in a
// group of the two, and gives it a role and takes that back. A verb that has answered holds, on any gateway and node, so what is
// sent after it is accepted or refused for sure. Only while the store catches up after a backup was put back, nodes may go by what
// that has; the next verb answers when it has caught up.
type dispute struct {
	crowd         *Crowd
	owner, member *talker
	group         int64
	rounds        int
	putBack       atomic.Int64 // how often a backup takes or has taken the place of the store
	since         int64        // what that was before the last verb
}

// dispute lets two users dispute until the traffic ends.
func (c *Crowd) dispute(ctx context.Context, gateways []string, until <-chan struct{}) *dispute {
	t := c.t
	t.Helper()
	d := &dispute{crowd: c}
	for i, k := range []**talker{&d.owner, &d.member} {
		*k = &talker{ID: disputeFirst + int64(i), url: gateways[i], journal: c.Journal}
		require.NoError(t, (*k).connect(ctx))
	}
	group, err := (&User{Client: d.owner.Client}).Group(ctx, client.GroupCreate{Name: "dispute", Members: []int64{d.member.ID}})
	require.NoError(t, err)
	d.group = group.GroupID
	for _, name := range d.conversations() {
		c.Journal.Members(name, d.owner.ID, d.member.ID)
	}
	c.others = append(c.others, d.history)
	c.speaking.Go(func() error {
		for ; ; d.rounds++ {
			select {
			case <-until:
				return nil
			case <-time.After(disputed):
			}
			c.silence.RLock()
			err := d.round(ctx, d.rounds, until)
			c.silence.RUnlock()
			if err != nil {
				return fmt.Errorf("dispute, round %d: %w", d.rounds, err)
			}
		}
	})
	return d
}

func (d *dispute) conversations() []string {
	return []string{events.Direct(d.owner.ID, d.member.ID), events.Group(d.group)}
}

func (d *dispute) history(ctx context.Context) error {
	for _, name := range d.conversations() {
		if err := d.owner.History(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// round does one thing after the other, unless the traffic ends meanwhile.
func (d *dispute) round(ctx context.Context, n int, until <-chan struct{}) error {
	id := func(step int) string { return fmt.Sprintf("%d-%d", n, step) }
	toOwner, toMember, toGroup := client.ToUser(d.owner.ID), client.ToUser(d.member.ID), client.ToGroup(d.group)
	mute := func(user, until int64, step int) client.GroupMute {
		return client.GroupMute{GroupID: d.group, User: user, Until: until, ClientMsgID: id(step)}
	}
	role := func(role events.Role, step int) client.GroupRole {
		return client.GroupRole{GroupID: d.group, User: d.member.ID, Role: role, ClientMsgID: id(step)}
	}
	var steps []func() error
	does := func(k *talker, r client.Request) {
		steps = append(steps, func() error {
			d.since = d.putBack.Load()
			return k.insist(ctx, r)
		})
	}
	says := func(k *talker, to client.Target, step int) {
		steps = append(steps, func() error { return d.send(ctx, k, to, fmt.Sprintf("%d %s", k.ID, id(step)), true) })
	}
	mayNot := func(k *talker, to client.Target, step int) {
		steps = append(steps, func() error { return d.send(ctx, k, to, fmt.Sprintf("%d %s", k.ID, id(step)), false) })
	}
	switch n % 3 {
	case 0:
		does(d.owner, client.Block{User: d.member.ID})
		mayNot(d.member, toOwner, 1)
		says(d.owner, toMember, 2)
		says(d.member, toGroup, 3)
		does(d.owner, client.Unblock{User: d.member.ID})
		says(d.member, toOwner, 4)
	case 1:
		does(d.owner, mute(d.member.ID, forever, 1))
		mayNot(d.member, toGroup, 2)
		says(d.owner, toGroup, 3)
		does(d.owner, mute(d.member.ID, 0, 4))
		says(d.member, toGroup, 5)
	case 2:
		does(d.owner, role(events.RoleAdmin, 1))
		does(d.member, mute(0, forever, 2))
		says(d.member, toGroup, 3)
		does(d.owner, role(events.RoleMember, 4))
		mayNot(d.member, toGroup, 5)
		does(d.owner, mute(0, 0, 6))
		says(d.member, toGroup, 7)
	}
	for i, step := range steps {
		select {
		case <-until:
			return nil
		default:
		}
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// send sends a message that has to be accepted, or refused for want of permission, and notes in the journal what has become of it.
func (d *dispute) send(ctx context.Context, k *talker, target client.Target, id string, may bool) error {
	conversation, m := k.conversationOf(target), client.Send{Target: target, Content: id, ClientMsgID: id}
	k.journal.Sent(conversation, k.toSend(m, id))
	var sent client.Sent
	err := insist(ctx, func() (err error) {
		sent, err = k.Client.Send(ctx, m)
		return err
	})
	sure := d.putBack.Load() == d.since
	refused := errors.Is(err, &client.Error{Code: client.PermissionDenied})
	switch {
	case err != nil && !refused:
		return fmt.Errorf("send %s: %w", id, err)
	case sure && refused == may:
		return fmt.Errorf("%s of user %d was accepted %t, refused %t", id, k.ID, !refused, refused)
	case refused:
		k.journal.Rejected(conversation, k.ID, id)
	default:
		k.journal.Acked(conversation, k.ID, id, sent.MessageID)
	}
	return nil
}

// settle ends the dispute, and requires that what was left is told as it is: a block, who has read, a group that is dissolved, and
// when somebody was seen last.
func (d *dispute) settle(ctx context.Context) {
	t := d.crowd.t
	t.Helper()
	require.Positive(t, d.rounds)
	blocked := func(want ...int64) {
		t.Helper()
		Await(t, func() bool {
			users, err := d.owner.Client.Blocked(ctx)
			return err == nil && slices.Equal(users, want)
		}, "who is blocked")
	}
	require.NoError(t, d.owner.insist(ctx, client.Block{User: d.member.ID}))
	blocked(d.member.ID)
	require.NoError(t, d.owner.insist(ctx, client.Unblock{User: d.member.ID}))
	blocked()

	all, err := wholeHistory(ctx, d.owner.Client, events.Group(d.group))
	require.NoError(t, err)
	last := all[len(all)-1].Seq
	require.NoError(t, d.member.insist(ctx, client.Read{Conversation: events.Group(d.group), Seq: last}))
	Await(t, func() bool {
		readers, err := d.owner.Client.Readers(ctx, client.Readers{Conversation: events.Group(d.group), Seq: last})
		return err == nil && slices.ContainsFunc(readers, func(r client.Reader) bool { return r.User == d.member.ID && r.Seq == last })
	}, "who has read")

	require.NoError(t, d.owner.insist(ctx, client.GroupDissolve{GroupID: d.group}))
	_, err = d.member.Client.Send(ctx, client.Send{Target: client.ToGroup(d.group), Content: "too late"})
	require.ErrorIs(t, err, &client.Error{Code: client.NotFound})

	Await(t, func() bool { // of who has left before all this
		present, err := d.owner.Client.Presence(ctx, notifyMuted)
		return err == nil && len(present.Online) == 0 && present.LastSeen[notifyMuted] > 0
	}, "who was seen last")
	require.NoError(t, d.member.Client.Close())
	require.NoError(t, d.owner.Client.Close())
	t.Logf("%d rounds of the dispute", d.rounds)
}
