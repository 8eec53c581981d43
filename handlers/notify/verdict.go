package notify

import (
	"context"
	"time"

	"millrace/events"
)

// The reasons why a user is not told.
const (
	reasonOld        = "old"         // the message is older than MaxAge
	reasonLargeGroup = "large_group" // the group has too many members; counted once a message
	reasonOnline     = "online"
	reasonRead       = "read"
	reasonMuted      = "muted"
	reasonHidden     = "hidden" // the user has hidden the conversation since
	reasonLeft       = "left"   // the user has left the group since
	reasonRecalled   = "recalled"
	reasonQuiet      = "quiet"
	reasonNoTarget   = "no_target" // the user's browsers have gone
)

// verdict returns why the user is not to be told, or an empty string, and the latest message as it is now, if the store has it.
// Mentions break neither mute nor quiet hours: whoever wants to hear nothing hears nothing.
func (n *Notify) verdict(ctx context.Context, x *Notification, seen events.Record) (reason string, m Message, err error) {
	switch {
	case n.old(x.At):
		return reasonOld, m, nil
	case seen.Type == events.UserOnline:
		return reasonOnline, m, nil
	case n.Quiet.At(n.now()):
		return reasonQuiet, m, nil
	}
	read, err := n.store.ReadMark(ctx, x.User, x.Conversation)
	if err != nil || read >= x.Seq {
		return reasonRead, m, err
	}
	mutedUntil, hidden, err := n.store.Settings(ctx, x.User, x.Conversation, x.Seq)
	switch {
	case err != nil:
		return "", m, err
	case n.now().Before(time.Unix(mutedUntil, 0)):
		return reasonMuted, m, nil
	case hidden:
		return reasonHidden, m, nil
	}
	if c, err := events.ParseConversation(x.Conversation); err == nil && c.GroupID != 0 {
		sees, err := n.store.Sees(ctx, x.User, c.GroupID, x.Seq)
		if err != nil || !sees {
			return reasonLeft, m, err
		}
	}
	m, _, err = n.store.Message(ctx, x.Conversation, x.MessageID)
	if err == nil && m.Recalled && x.Count == 1 {
		return reasonRecalled, m, nil
	}
	return "", m, err
}
