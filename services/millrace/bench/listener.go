package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

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
func (l *listener) run(w *wire, start time.Time, delivered *atomic.Int64) error {
	for {
		text, err := l.peer.next()
		if err != nil {
			return err
		}
		s, _, ok, err := w.pushed(text)
		if err != nil {
			return err
		}
		if ok {
			l.seen = append(l.seen, s)
			l.last = time.Since(start)
			delivered.Add(1)
		}
	}
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
		dials.Go(func() error {
			peer, err := dialBenchPeer(ctx, r.options.url, r.options.secure, user, r.options.tokens().Of(user))
			if err == nil {
				p.others[i] = &listener{peer: peer}
			}
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
	p.group = group
	p.wire = newWire(r.id, 0, client.ToGroup(group), r.options.size)
	return nil
}

// createGroup makes a group and returns its id. Nothing else may be awaited on the connection.
func (p *benchPeer) createGroup(create client.GroupCreate) (int64, error) {
	text, err := client.Encode(groupFrame, create)
	if err != nil {
		return 0, err
	}
	if err := p.write(text); err != nil {
		return 0, err
	}
	for {
		if text, err = p.next(); err != nil {
			return 0, err
		}
		switch f, err := client.Decode(text); {
		case err != nil:
			return 0, err
		case f.ID != groupFrame: // a push
		case f.Error != nil:
			return 0, f.Error
		case f.Group == nil:
			return 0, fmt.Errorf("unexpected answer %.200q", text)
		default:
			return f.Group.GroupID, nil
		}
	}
}
