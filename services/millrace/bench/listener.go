package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
)

// listener is one more user who receives what a pair's sender sends to a group. Its goroutine owns what it records.
type listener struct {
	peer *benchPeer
	seen []sighting
	last time.Duration // since the start, of the last delivery
	err  error
}

// run reads until the connection ends, and counts what is delivered.
func (l *listener) run(p *benchPair) error {
	return p.receive(l.peer, func(s sighting, _ int64, now time.Duration) {
		l.seen = append(l.seen, s)
		l.last = now
	})
}

// gather connects the other members of the pair's group, makes the group, and lets the pair send to it.
func (r *benchRun) gather(ctx context.Context, p *benchPair) error {
	p.others = make([]*listener, r.members-2) // the sender and the receiver are members too
	members := []int64{p.to.user}
	var dials errgroup.Group
	dials.SetLimit(maxDials)
	for i := range p.others {
		user := p.to.user + 1 + int64(i)
		members = append(members, user)
		p.others[i] = &listener{}
		dials.Go(func() (err error) {
			p.others[i].peer, err = r.dial(ctx, user, nil)
			return err
		})
	}
	if err := dials.Wait(); err != nil {
		return err
	}
	group, err := p.from.createGroup(client.GroupCreate{Name: "bench " + r.id, Members: members, ClientMsgID: r.id})
	if err != nil {
		return fmt.Errorf("create a group of %d: %w", r.members, err)
	}
	p.conversation = events.Group(group)
	p.wire = newWire(r.id, 0, client.ToGroup(group), r.options.size)
	return nil
}
