package message

import (
	"context"

	"millrace/events"
	"millrace/infra/store"
)

// Store is what the service reads. It answers [store.ErrNotFound] for a message or group that does not exist.
type Store interface {
	// History answers a page in ascending seq, and whether there is more in the page's direction.
	History(ctx context.Context, conversation string, page store.Page) ([]store.StoredMessage, bool, error)
	Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error)
	// SentAt returns the timestamps of those of the messages that are stored.
	SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error)
	// HasChange reports whether an edit, recall or change of membership with the event id has had an effect on the
	// conversation.
	HasChange(ctx context.Context, conversation, eventID string) (bool, error)
	// ReadMark returns the seq up to which the user has read the conversation, 0 if it has read nothing.
	ReadMark(ctx context.Context, user int64, conversation string) (int64, error)
	// Heads returns, from behind the place on, the user's conversations in the order of their places, at most limit, and
	// whether there are more.
	Heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error)
	// Missed answers the events in the ranges that concern the user, ascending within each partition, at most limit:
	// direct conversations, and each stay in a group from the joining to the leaving. message_read is left out.
	Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error)
	// Memberships answers the groups the user belongs to now.
	Memberships(ctx context.Context, user int64) ([]store.Membership, error)
	// Stays answers every stay of the user in the group, ended ones too, the first one first.
	Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error)
	Group(ctx context.Context, id int64) (store.Group, error)
	// Members returns who belongs to the group now, ascending: nobody if there is no such group.
	Members(ctx context.Context, group int64) ([]int64, error)
	// ReserveGroup returns the id of the group that the owner creates with the client_msg_id: the drawn one, unless an id is
	// reserved for the two already.
	ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error)
	// Stored returns per partition the position up to which everything is stored or done with otherwise.
	Stored(ctx context.Context) (map[int32]int64, error)
}
