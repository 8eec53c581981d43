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
	network network       // the network of its connections
	watches *watches      // waits for its next message; may be nil
	silence *sync.RWMutex // of the crowd, if it talks
	ruled   bool          // the message nodes and moderation have the rules of writeRules
	moderation
	heard   func(client.Push)            // called with every push, if set
	left    atomic.Pointer[func(error)]  // called with the reason when a connection ends, if set
	noticed atomic.Pointer[func(string)] // called with the id of a notice, if set
	diary   diary
	loaded  map[string]bool // messages that history had after too much was missed; they may still come as pushes
	reloads atomic.Int64    // how often too much was missed
	away    atomic.Int64    // how often its connection has ended
	room    atomic.Int64    // the number in the room's name
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
			k.away.Add(1)
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
	case events.MessageModerated:
		k.journal.Told(p.Conversation, k.ID, p.MessageID)
	case events.GroupRenamed:
		k.called(p.Name)
	case events.SystemNotice:
		if noticed := k.noticed.Load(); noticed != nil {
			(*noticed)(p.NoticeID)
		}
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
		ID: m.MessageID, ClientMsgID: m.ClientMsgID, From: m.From, Seq: seq, Content: m.Content, Extra: string(m.Extra),
		ReplyTo: m.ReplyTo, Mentions: mentioned(m.Mentions), Recalled: m.Recalled,
	}
}

// mentioned returns the users as the journal has them.
func mentioned(users []int64) string {
	if len(users) == 0 {
		return ""
	}
	return fmt.Sprint(users)
}

// toSend returns the message as it has to be accepted, if that has the content.
func (k *talker) toSend(m client.Send, content string) oracle.Message {
	return oracle.Message{
		From: k.ID, ClientMsgID: m.ClientMsgID, Content: content, Extra: string(m.Extra), ReplyTo: m.ReplyTo, Mentions: mentioned(m.Mentions),
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
		conversation, m := k.compose(i, targets[i%len(targets)], i-len(targets))
		content, rejected, moderated := m.Content, false, false
		if k.ruled {
			content, rejected = ruled(m.Content)
			moderated = k.expects(k.journal, conversation, events.MessageID(k.ID, conversation, m.ClientMsgID), content)
		}
		k.journal.Sent(conversation, k.toSend(m, content))
		k.watches.sent(m.ClientMsgID)
		sending := k.Client.Post(ctx, m)
		answers.Go(func() error {
			defer k.silence.RUnlock()
			sent, err := sending.Wait()
			switch {
			case rejected && errors.Is(err, &client.Error{Code: client.Rejected}):
				k.journal.Rejected(conversation, k.ID, m.ClientMsgID)
				return nil
			case err != nil:
				return fmt.Errorf("send %s: %w", m.ClientMsgID, err)
			case rejected || sent.Replaced != (content != m.Content):
				return fmt.Errorf("%q was accepted, replaced %t, though the rules say otherwise", m.Content, sent.Replaced)
			}
			k.journal.Acked(conversation, k.ID, m.ClientMsgID, sent.MessageID)
			k.watches.acked(k.ID, m.ClientMsgID)
			if moderated {
				k.journal.Agreed(conversation, oracle.Change{MessageID: sent.MessageID, Recalled: true})
			}
			return k.change(ctx, i, conversation, sent.MessageID)
		})
	}
}

// conversationOf returns the conversation with the target.
func (k *talker) conversationOf(target client.Target) string {
	if target.GroupID != 0 {
		return events.Group(target.GroupID)
	}
	return events.Direct(k.ID, target.To)
}

// compose returns the talker's message with the number. Some messages answer an earlier one, some mention users, and some have
// words that the rules of [writeRules] are about.
func (k *talker) compose(i int, target client.Target, earlier int) (conversation string, m client.Send) {
	conversation = k.conversationOf(target)
	id := fmt.Sprintf("%d-%d", k.ID, i)
	m = client.Send{Target: target, Content: id + wordOf(i), ClientMsgID: id, Extra: extraOf(i, id)}
	if wordOf(i) == echoWord {
		m.Content = fmt.Sprint(k.ID, echoWord)
	}
	if i%4 > 1 && earlier >= 0 {
		m.ReplyTo = events.MessageID(k.ID, conversation, fmt.Sprintf("%d-%d", k.ID, earlier))
	}
	if i%6 > 3 {
		m.Mentions = []int64{k.ID, target.To + Bob}
	}
	return conversation, m
}

// Say sends one message and notes it in the journal.
func (k *talker) Say(ctx context.Context, target client.Target, id string) error {
	conversation, m := k.conversationOf(target), client.Send{Target: target, Content: id, ClientMsgID: id}
	k.journal.Sent(conversation, k.toSend(m, id))
	sent, err := k.Client.Send(ctx, m)
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
	for edit := range [20]int{3: 1, 5: 2, 7: 1, 15: 2}[i%20] {
		content := fmt.Sprintf("%d-%d changed %d", k.ID, i, edit)
		switch {
		case i%20 < 15:
		case edit == 0:
			content += forbiddenWord
		default:
			content += secretWord
		}
		r := client.Edit{Conversation: conversation, MessageID: messageID, Content: content, Extra: extraOf(i, content)}
		if err := k.edit(ctx, r); err != nil {
			return err
		}
	}
	if i%20 != 7 && i%20 != 12 {
		return nil
	}
	change := oracle.Change{MessageID: messageID, Recalled: true}
	k.journal.Asked(conversation, change)
	if err := k.insist(ctx, client.Recall{Conversation: conversation, MessageID: messageID}); err != nil {
		return fmt.Errorf("recall %s: %w", messageID, err)
	}
	k.journal.Agreed(conversation, change)
	return nil
}

// edit makes the edit, unless the rules are against it, and notes what it has to make of the message.
func (k *talker) edit(ctx context.Context, r client.Edit) error {
	change, rejected := oracle.Change{MessageID: r.MessageID, Content: r.Content, Extra: string(r.Extra)}, false
	if k.ruled {
		change.Content, rejected = ruled(r.Content)
	}
	if !rejected {
		k.journal.Asked(r.Conversation, change)
	}
	switch err := k.insist(ctx, r); {
	case rejected && errors.Is(err, &client.Error{Code: client.Rejected}):
		return nil
	case err != nil:
		return fmt.Errorf("edit %s: %w", r.MessageID, err)
	case rejected:
		return fmt.Errorf("an edit to %q was accepted against the rules", r.Content)
	}
	k.journal.Agreed(r.Conversation, change)
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
		if of, err := events.ParseConversation(head.Conversation); err == nil && of.GroupID != 0 {
			g, err := reader.Group(ctx, client.GroupInfo{GroupID: of.GroupID})
			if err != nil && !errors.Is(err, &client.Error{Code: client.NotFound}) { // a guest may have left
				return err
			}
			k.called(g.Name)
		}
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
