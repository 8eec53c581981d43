package proof

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

// talker is a client that sends, and notes in the journal everything it sees.
type talker struct {
	ID      int64
	url     string
	journal *oracle.Journal
	Client  *client.Client
	network network                     // the network of its connections
	watches *watches                    // waits for its next message; may be nil
	silence *sync.RWMutex               // of the crowd, if it talks
	heard   func(client.Push)           // called with every push, if set
	left    atomic.Pointer[func(error)] // called with the reason when a connection ends, if set
	diary   diary
	loaded  map[string]bool // messages that history had after too much was missed; they may still come as pushes
	reloads atomic.Int64    // how often too much was missed
}

func (k *talker) connect(ctx context.Context) (err error) {
	again := false
	k.Client, err = client.Dial(ctx, client.Config{
		URL: k.url, Token: Token(k.ID), NetDial: k.network.dial,
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
		OnViolation: func(what string) { k.journal.Reported(fmt.Sprintf("user %d: %s", k.ID, what)) },
	})
	return err
}

// note puts a push about a conversation into the journal.
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
		k.journal.Shown(p.Conversation, k.ID, m)
		k.watches.received(k.ID, p.Message.ClientMsgID)
	case events.MessageEdited:
		k.journal.Changed(p.Conversation, k.ID, pos.Seq, oracle.Change{
			MessageID: p.MessageID, Content: p.Content, Extra: string(p.Extra),
		})
	case events.MessageRecalled:
		k.journal.Changed(p.Conversation, k.ID, pos.Seq, oracle.Change{MessageID: p.MessageID, Recalled: true})
	case events.MemberJoined:
		k.journal.Joined(events.Group(p.GroupID), pos.Seq, p.User)
	case events.MemberLeft:
		k.journal.Left(events.Group(p.GroupID), pos.Seq, p.User)
	}
	if p.User == k.ID {
		k.diary.note("%s at %s", p.Type, p.Pos)
	}
}

func seen(seq int64, m *events.PushMessage) oracle.Message {
	return oracle.Message{
		ID: m.MessageID, ClientMsgID: m.ClientMsgID, From: m.From, Seq: seq, Content: m.Content, Extra: string(m.Extra), Recalled: m.Recalled,
	}
}

// talk sends to the targets in turn until the time is over, and returns when everything is answered.
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
		k.silence.RLock()
		target := targets[i%len(targets)]
		conversation := events.Direct(k.ID, target.To)
		if target.GroupID != 0 {
			conversation = events.Group(target.GroupID)
		}
		id := fmt.Sprintf("%d-%d", k.ID, i)
		k.journal.Sent(conversation, k.ID, id)
		k.watches.sent(id)
		sending := k.Client.Post(ctx, client.Send{Target: target, Content: id, ClientMsgID: id, Extra: extraOf(i, id)})
		answers.Go(func() error {
			defer k.silence.RUnlock()
			sent, err := sending.Wait()
			if err != nil {
				return fmt.Errorf("send %s: %w", id, err)
			}
			k.journal.Acked(conversation, k.ID, id, sent.MessageID)
			k.watches.acked(k.ID, id)
			return k.change(ctx, i, conversation, sent.MessageID)
		})
	}
}

// Say sends one message and notes it in the journal.
func (k *talker) Say(ctx context.Context, target client.Target, id string) error {
	conversation := events.Direct(k.ID, target.To)
	if target.GroupID != 0 {
		conversation = events.Group(target.GroupID)
	}
	k.journal.Sent(conversation, k.ID, id)
	sent, err := k.Client.Send(ctx, client.Send{Target: target, Content: id, ClientMsgID: id})
	if err != nil {
		return fmt.Errorf("send %s: %w", id, err)
	}
	k.journal.Acked(conversation, k.ID, id, sent.MessageID)
	return nil
}

// extraOf returns what every other message has besides the text.
func extraOf(i int, text string) events.Extra {
	if i%2 == 0 {
		return nil
	}
	return events.Extra(`{"of":"` + text + `"}`)
}

// change edits some messages, some of them twice, and recalls others. It makes each change after the one before was
// acknowledged.
func (k *talker) change(ctx context.Context, i int, conversation, messageID string) error {
	var changes []oracle.Change
	for edit := range [20]int{3: 1, 5: 2, 7: 1}[i%20] {
		content := fmt.Sprintf("%d-%d changed %d", k.ID, i, edit)
		changes = append(changes, oracle.Change{MessageID: messageID, Content: content, Extra: string(extraOf(i, content))})
	}
	if i%20 == 7 || i%20 == 12 {
		changes = append(changes, oracle.Change{MessageID: messageID, Recalled: true})
	}
	for _, change := range changes {
		k.journal.Asked(conversation, change)
		var request client.Request = client.Edit{
			Conversation: conversation, MessageID: messageID, Content: change.Content, Extra: events.Extra(change.Extra),
		}
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

// insist repeats the request until it is done. A message that was acknowledged exists, so any refusal but unavailable is an
// error.
func (k *talker) insist(ctx context.Context, r client.Request) error {
	return insist(ctx, func() error {
		_, err := k.Client.Call(ctx, r)
		return err
	})
}

// insist tries again while the answer is unavailable, as a client should.
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

// reload loads all conversations, as the protocol requires of a client that has missed too much, over a connection of its
// own. Nothing newer is shown meanwhile. While the gateway is away it tries again.
func (k *talker) reload(ctx context.Context) {
	for ctx.Err() == nil {
		err := k.reloadOnce(ctx)
		k.diary.note("reloaded: %v", err)
		if err == nil {
			k.reloads.Add(1)
			return
		}
		Wait(ctx, sendEvery)
	}
}

func (k *talker) reloadOnce(ctx context.Context) error {
	reader, err := client.Dial(ctx, client.Config{URL: k.url, Token: Token(k.ID)})
	if err != nil {
		return err
	}
	defer reader.Close()
	heads, err := reader.Conversations(ctx, client.Conversations{})
	if err != nil {
		return err
	}
	k.loaded = make(map[string]bool)
	for _, head := range heads.Conversations {
		all, err := wholeHistory(ctx, reader, head.Conversation)
		if err != nil {
			return err
		}
		for _, m := range all {
			k.loaded[m.ID] = true
		}
		k.journal.Reloaded(head.Conversation, k.ID, all)
	}
	return nil
}

// History notes in the journal a whole conversation as the server returns it.
func (k *talker) History(ctx context.Context, conversation string) error {
	all, err := wholeHistory(ctx, k.Client, conversation)
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

// untilWhole notes a conversation's history in the journal until it has everything that was acknowledged and received.
func (k *talker) untilWhole(ctx context.Context, conversation string) error {
	for ctx.Err() == nil {
		if err := k.History(ctx, conversation); err != nil {
			return err
		}
		if k.journal.MissingIn(conversation) == 0 {
			return nil
		}
		Wait(ctx, sendEvery)
	}
	return fmt.Errorf("%s is not whole: %w", conversation, ctx.Err())
}
