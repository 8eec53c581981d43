package client

import (
	"context"
	"crypto/rand"
	"fmt"
)

// Sending is a message that was posted.
type Sending struct{ call *call }

// Post puts a message into the queue and returns at once. Messages to one target keep the order of their Posts. The client
// repeats the message until it is accepted, also after an answer of unavailable, always with the same ClientMsgID, which it
// draws if there is none. If ctx ends before that, the outcome is unknown.
func (c *Client) Post(ctx context.Context, m Send) *Sending {
	if m.ClientMsgID == "" {
		m.ClientMsgID = rand.Text()
	}
	return &Sending{c.queue.add(ctx, m)}
}

// Wait returns the outcome.
func (s *Sending) Wait() (Sent, error) {
	f, err := s.call.wait()
	if err == nil && f.Sent == nil {
		err = unexpected(s.call, f)
	}
	if err != nil {
		return Sent{}, err
	}
	return *f.Sent, nil
}

// Send posts a message and waits for the outcome.
func (c *Client) Send(ctx context.Context, m Send) (Sent, error) { return c.Post(ctx, m).Wait() }

// Call makes any request and returns its answer. The error is an *[Error] if the server refused.
func (c *Client) Call(ctx context.Context, r Request) (Frame, error) {
	return c.queue.add(ctx, r).wait()
}

// History returns a page of a conversation.
func (c *Client) History(ctx context.Context, r History) (Page, error) {
	f, err := c.ask(ctx, r, func(f Frame) bool { return f.Messages != nil })
	if err != nil {
		return Page{}, err
	}
	return *f.Messages, nil
}

// Conversations returns a page of the user's conversations.
func (c *Client) Conversations(ctx context.Context, r Conversations) (ConversationPage, error) {
	f, err := c.ask(ctx, r, func(f Frame) bool { return f.Conversations != nil })
	if err != nil {
		return ConversationPage{}, err
	}
	return *f.Conversations, nil
}

// Readers returns who has read a conversation at least so far, at most 1,000 users.
func (c *Client) Readers(ctx context.Context, r Readers) ([]Reader, error) {
	f, err := c.ask(ctx, r, func(f Frame) bool { return f.Readers != nil })
	if err != nil {
		return nil, err
	}
	return f.Readers.Readers, nil
}

// Group makes a group request: [GroupCreate], [GroupInfo], [GroupJoin], [GroupLeave], [GroupAdd],
// [GroupRemove], [GroupRename], [GroupDissolve], [GroupRole] or [GroupMute]. It draws a ClientMsgID if there is none. The group is zero if the server answered ok.
func (c *Client) Group(ctx context.Context, r Request) (Group, error) {
	f, err := c.ask(ctx, named(r), func(f Frame) bool { return f.Group != nil || f.OK != nil })
	if err != nil || f.Group == nil {
		return Group{}, err
	}
	return *f.Group, nil
}

// Presence returns which of the users are online, and when the others were last seen. From then on the server pushes their
// changes, as [TypeUserOnline] and [TypeUserOffline], until the connection ends or presence is asked for again.
func (c *Client) Presence(ctx context.Context, users ...int64) (Present, error) {
	f, err := c.ask(ctx, Presence{Users: users}, func(f Frame) bool { return f.Presence != nil })
	if err != nil {
		return Present{}, err
	}
	return *f.Presence, nil
}

// Blocked returns the users whom the user blocks, in ascending order.
func (c *Client) Blocked(ctx context.Context) ([]int64, error) {
	f, err := c.ask(ctx, Blocked{}, func(f Frame) bool { return f.Blocked != nil })
	if err != nil {
		return nil, err
	}
	return f.Blocked.Users, nil
}

// Do makes a request whose answer is ok or pong: [Read], [Settings], [Block], [Unblock], [Recall], [Edit] (it draws a ClientMsgID if there is none),
// [Typing], [Refresh], [PushSubscribe], [PushUnsubscribe], [Ping].
func (c *Client) Do(ctx context.Context, r Request) error {
	_, err := c.ask(ctx, named(r), func(f Frame) bool { return f.OK != nil || f.Pong != nil })
	return err
}

// ask makes a request and returns its answer, or an error if the answer is not of a kind that the request has.
func (c *Client) ask(ctx context.Context, r Request, fits func(Frame) bool) (Frame, error) {
	k := c.queue.add(ctx, r)
	f, err := k.wait()
	if err == nil && !fits(f) {
		err = unexpected(k, f)
	}
	return f, err
}

// named returns the request with a ClientMsgID, so that it can be repeated over another connection without harm.
func named(r Request) Request {
	drawn := func(id *string) {
		if *id == "" {
			*id = rand.Text()
		}
	}
	switch r := r.(type) {
	case Edit:
		drawn(&r.ClientMsgID)
		return r
	case GroupCreate:
		drawn(&r.ClientMsgID)
		return r
	case GroupJoin:
		drawn(&r.ClientMsgID)
		return r
	case GroupLeave:
		drawn(&r.ClientMsgID)
		return r
	case GroupAdd:
		drawn(&r.ClientMsgID)
		return r
	case GroupRemove:
		drawn(&r.ClientMsgID)
		return r
	case GroupRole:
		drawn(&r.ClientMsgID)
		return r
	case GroupMute:
		drawn(&r.ClientMsgID)
		return r
	case GroupRename:
		drawn(&r.ClientMsgID)
		return r
	}
	return r
}

func unexpected(k *call, f Frame) error {
	return fmt.Errorf("%s: unexpected answer %.200q", k.req.verb(), f.Raw)
}
