package message

import (
	"cmp"
	"context"
	"time"

	"millrace/events"
	"millrace/infra/hook"
	"millrace/infra/pubsub"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// repeatTimeout bounds how long the sender of a rejected message waits until it is known whether the message is a repeat.
const repeatTimeout = 1500 * time.Millisecond

// reviewSends asks the hooks about the messages of the runs, with one call of each hook for all. It takes out what is not to
// be published. A message that was accepted stays accepted as it was, whatever the hooks say of a repeat: they are not asked
// about one that this node has accepted lately, and one that they reject is looked for in the store and in the log.
func (s *Service) reviewSends(ctx context.Context, runs []*sending) {
	drafts := make([][]*reviewed, len(runs))
	var unknown []*reviewed
	for i, p := range runs {
		for n, m := range p.messages {
			sender := p.requests[p.places[n]].GetSender()
			d := &reviewed{given: m, Draft: hook.Draft{Message: m, UserType: sender.GetUserType(), Region: sender.GetRegion()}}
			if first, repeat := s.originals.sent.get(m.MessageID); repeat && !first.stored {
				d.first = &first
			} else {
				unknown = append(unknown, d)
			}
			drafts[i] = append(drafts[i], d)
		}
	}
	s.hooks.review(ctx, unknown)
	for i, p := range runs {
		s.findRepeats(ctx, drafts[i])
		p.keepAccepted(drafts[i])
	}
}

// findRepeats finds the first messages that the rejected ones of a run repeat. Where the store is down or too far behind, the
// latest records of the partition have to do. If the log cannot be read either, the messages are not rejected but unavailable.
func (s *Service) findRepeats(ctx context.Context, drafts []*reviewed) {
	rejected := map[string]*reviewed{}
	var keys []store.MessageKey
	for _, d := range drafts {
		if d.rejected {
			rejected[d.given.MessageID] = d
			keys = append(keys, store.MessageKey{Conversation: d.given.Conversation, MessageID: d.given.MessageID})
		}
	}
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), repeatTimeout)
	defer cancel()
	found := func(m *events.Message, edited bool) {
		if d := rejected[m.MessageID]; d != nil && d.first == nil && d.given.From == m.From {
			d.first = &original{sentAt: m.Timestamp, replaced: !edited && !m.Recalled && !sameContent(m, d.given)}
		}
	}
	inLog := func(r *logged) {
		if r.Type == events.NewMessage {
			found(r.Message, false)
		}
	}
	_, err := s.current(ctx, keys[0].Conversation, func(ctx context.Context) error {
		sentAt, err := s.store.SentAt(ctx, keys)
		for key := range sentAt {
			m, err := s.store.Message(ctx, key.Conversation, key.MessageID)
			if unlessNotFound(err) != nil {
				return err
			}
			found(&m.Message, m.EditedAt != 0)
		}
		return err
	}, inLog)
	if err != nil {
		err = s.latest(ctx, keys[0].Conversation, inLog)
	}
	if err == nil {
		return
	}
	for _, d := range rejected {
		d.err, d.rejected = err, false
	}
}

// latest calls visit for the latest records of the conversation's partition, whether or not storage takes them.
func (s *Service) latest(ctx context.Context, conversation string, visit func(*logged)) error {
	ends, err := s.ends.get(ctx)
	if err != nil {
		return err
	}
	p := events.Partition(conversation, s.partitions)
	return pubsub.LookBack(events.Position{Partition: p, Seq: ends[p]}, pubsub.MaxLookBack, func(within events.Range) error {
		trimmed, err := s.tail.read(ctx, []events.Range{within}, false, func(r *logged) error {
			visit(r)
			return nil
		})
		if err == nil && len(trimmed) > 0 {
			err = pubsub.ErrTrimmed
		}
		return err
	})
}

// keepAccepted gives the messages of the run that are not to be published their results, and the others what the hooks have
// made of them. After a message whose outcome is not known all later ones are refused too, because they would overtake what the
// caller is going to repeat.
func (p *sending) keepAccepted(drafts []*reviewed) {
	records, places := p.records, p.places
	p.records, p.places = nil, nil
	var broken error
	for i, d := range drafts {
		place := places[i]
		sent := p.results[place].GetSent()
		err := cmp.Or(broken, d.err)
		if err == nil && d.replaced {
			records[i].Payload, err = events.Encode(&events.Event{
				Type: events.NewMessage, Message: d.Message, Timestamp: d.Message.Timestamp,
			})
		}
		switch {
		case d.first != nil:
			sent.Timestamp, sent.Replaced = d.first.sentAt, d.first.replaced
		case err == nil:
			d.decided.SetHeaders(records[i].Metadata.Set)
			sent.Replaced = d.replaced
			p.records, p.places = append(p.records, records[i]), append(p.places, place)
		default:
			p.results[place] = failed(err)
			if !d.rejected {
				broken = err
			}
		}
	}
}

// reviewEdit returns the message with what the hooks make of an edit of its content and extra, and what they decide besides.
func (s *Service) reviewEdit(
	ctx context.Context, r *millracev1.EditMessageRequest, m *messageNow, extra events.Extra,
) (*events.Message, *events.Decisions, error) {
	edited := m.Message
	edited.Content, edited.Extra = r.GetContent(), extra
	if s.hooks == nil {
		return &edited, &events.Decisions{}, nil
	}
	d := &reviewed{given: &edited, Draft: hook.Draft{
		Message: &edited, Edit: true, UserType: r.GetSender().GetUserType(), Region: r.GetSender().GetRegion(),
	}}
	s.hooks.review(ctx, []*reviewed{d})
	return d.Message, &d.decided, d.err
}
