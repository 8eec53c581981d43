package message

import (
	"context"

	"millrace/events"
	"millrace/infra/store"
)

// Store is the part of a store that the service reads. It returns [store.ErrNotFound] for a message or group that does not
// exist.
type Store interface {
	// History returns a page in ascending seq, and whether there are more messages in the page's direction.
	History(ctx context.Context, conversation string, page store.Page) ([]store.StoredMessage, bool, error)
	Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error)
	// SentAt returns the timestamps of those messages that are stored.
	SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error)
	// ChangeSeq returns the seq at which an edit, a recall or a change of the group with the event id has had its effect on the
	// conversation, 0 if none has.
	ChangeSeq(ctx context.Context, conversation, eventID string) (int64, error)
	// ReadMark returns the seq up to which the user has read the conversation, 0 if it has read nothing.
	ReadMark(ctx context.Context, user int64, conversation string) (int64, error)
	// Readers returns at most limit users, by ascending user, who have read the conversation at least up to seq: of a direct
	// conversation both, of a group its present members.
	Readers(ctx context.Context, conversation string, seq int64, limit int) ([]store.Reader, error)
	// Heads returns at most limit of the user's conversations, in the order of their places and after the place passed, and
	// whether there are more.
	Heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error)
	// Missed returns at most limit events in the ranges that concern the user, ascending within each partition: those of
	// direct conversations, and of each stay in a group from the joining to the leaving. It leaves out message_read.
	Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error)
	// Memberships returns the groups that the user belongs to now.
	Memberships(ctx context.Context, user int64) ([]store.Membership, error)
	// Stays returns every stay of the user in the group, ended ones included, the first one first.
	Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error)
	// Group returns a group, whose mutes may have passed.
	Group(ctx context.Context, id int64) (store.Group, error)
	// Members returns the present members of the group in ascending order, or none if there is no such group.
	Members(ctx context.Context, group int64) ([]int64, error)
	// ReserveGroup returns the id of the group that the owner creates with the client_msg_id. It is the drawn id, unless one
	// was reserved for these two before.
	ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error)
	// LastSeen returns the latest user_online or user_offline of those of the users who have one.
	LastSeen(ctx context.Context, users []int64) (map[int64]events.Record, error)
	// SaveSubscription makes the subscription the user's latest, and drops the oldest of too many.
	SaveSubscription(ctx context.Context, user int64, s store.Subscription) error
	// DropSubscription drops the subscription with the endpoint if it is the user's, and reports whether it was.
	DropSubscription(ctx context.Context, user int64, endpoint string) (was bool, err error)
	// Blocks returns those of the pairs that were ever blocked, as they are now.
	Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error)
	// Blocked returns at most limit of the users whom the user blocks, in ascending order.
	Blocked(ctx context.Context, by int64, limit int) ([]int64, error)
	// Progress returns, by partition, the position up to which the handler's work is in the store.
	Progress(ctx context.Context, handler string) (map[int32]int64, error)
	// RevokedBefore returns the time in Unix seconds before which the user's tokens are revoked, or 0.
	RevokedBefore(ctx context.Context, user int64) (int64, error)
	// Stored returns, by partition, the position up to which everything is stored or otherwise done with.
	Stored(ctx context.Context) (map[int32]int64, error)
}
