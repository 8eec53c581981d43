// Package storetest tests what every store must do: what it returns after records were saved. Between messages and the stored
// position it requires only that the position is never ahead, so that a store without transactions over several documents
// passes too.
package storetest

import (
	"context"
	"testing"
	"time"

	"millrace/events"
	"millrace/infra/store"
)

// Store is everything that the program needs of a store. Its methods are called concurrently, and by several processes at
// once. A transient error is plain; [events.Permanent] marks the error of a record that can never be stored.
type Store interface {
	// SaveBatch saves records of many partitions, ascending within each, and returns an error or nil for each. It is
	// idempotent, and one bad record does not keep others from being stored. Of records with the same message id the lowest
	// position is kept. The stored position of each partition advances to the highest seq in the batch.
	SaveBatch(ctx context.Context, records []events.Record) []error
	// History returns a page in ascending seq, and whether there are more messages in the direction asked for. Recalled
	// messages come without content.
	History(ctx context.Context, conversation string, page store.Page) (messages []store.StoredMessage, more bool, err error)
	// Message returns one message of the conversation, or store.ErrNotFound.
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
	// Heads returns at most limit of the user's direct conversations and groups, in the order of their places and after the
	// place passed, and whether there are more.
	Heads(ctx context.Context, user int64, behind store.Place, limit int) (heads []store.Head, more bool, err error)
	// Participations returns, in ascending order, the direct conversations of the user and the groups that it ever belonged to.
	Participations(ctx context.Context, user int64) ([]string, error)
	// Missed returns at most limit events in the ranges that concern the user, ascending within each partition. Messages come
	// as they are now, without edits if they were recalled; in a stay that has ended, everything comes as it was at its end.
	// It leaves out changes of messages from before a stay.
	Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error)
	// Memberships returns the groups that the user is a member of now, in no order.
	Memberships(ctx context.Context, user int64) ([]store.Membership, error)
	// Stays returns all stays of the user in the group, the first one first.
	Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error)
	// Group returns a group, or store.ErrNotFound.
	Group(ctx context.Context, groupID int64) (store.Group, error)
	// Members returns the present members of a group in ascending order, or none if there is no such group.
	Members(ctx context.Context, groupID int64) ([]int64, error)
	// ReserveGroup returns the id of the group that the owner creates with the client_msg_id. It is the drawn id, unless one
	// was reserved for these two before, or a group_created with these two was saved.
	ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error)
	// Stored returns, by partition, the position up to which everything is stored or otherwise done with. A partition that is
	// absent has 0.
	Stored(ctx context.Context) (map[int32]int64, error)
	// Advance notes that everything up to the positions is done with. It never moves a stored position back.
	Advance(ctx context.Context, positions map[int32]int64) error
	// Epochs returns the topic's epochs, or the zero value if none were ever set.
	Epochs(ctx context.Context, topic string) (events.Epochs, error)
	// SetEpochs sets the topic's epochs if their version follows the one that is stored, or is 1 if none is, and reports
	// whether it did.
	SetEpochs(ctx context.Context, topic string, epochs events.Epochs) (set bool, err error)
	// WebhookDisabled reports whether the webhook was disabled at this URL.
	WebhookDisabled(ctx context.Context, name, url string) (bool, error)
	// DisableWebhook disables the webhook at this URL, and at no other.
	DisableWebhook(ctx context.Context, name, url string) error
	// EnableWebhook enables the webhook, and reports whether it was disabled.
	EnableWebhook(ctx context.Context, name string) (was bool, err error)
	// SaveUsers keeps the record with the highest position: of each user among its user_online and user_offline, and of each
	// pair among its user_blocked and user_unblocked. It ignores records of other types. After an error the same records can
	// be saved again.
	SaveUsers(ctx context.Context, records []events.Record) error
	// LastSeen returns the latest record of those of the users who have one: its type, user, timestamp and position.
	LastSeen(ctx context.Context, users []int64) (map[int64]events.Record, error)
	// OnlineUsers returns, in ascending order, the users whose latest record lies in the partition and is a user_online.
	OnlineUsers(ctx context.Context, partition int32) ([]int64, error)
	// SaveSubscription makes the subscription the user's latest, whoever had it before. Of more than store.MaxSubscriptions of
	// the user it drops the oldest.
	SaveSubscription(ctx context.Context, user int64, s store.Subscription) error
	// DropSubscription drops the subscription with the endpoint if it is the user's, and reports whether it was.
	DropSubscription(ctx context.Context, user int64, endpoint string) (was bool, err error)
	// Subscriptions returns the subscriptions of those of the users who have any, the oldest first.
	Subscriptions(ctx context.Context, users []int64) (map[int64][]store.Subscription, error)
	// Blocks returns those of the pairs that were ever blocked, as they are now.
	Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error)
	// Blocked returns at most limit of the users whom the user blocks, in ascending order.
	Blocked(ctx context.Context, by int64, limit int) ([]int64, error)
	// Settings returns what the user has set for the conversation, as it holds when the last message is at seq: MutedUntil,
	// Pinned and Hidden of a head.
	Settings(ctx context.Context, user int64, conversation string, seq int64) (store.Head, error)
	// NoteMessages counts each message for the user, unless one of the same or a later position was counted of the
	// conversation before, or it is a repeat of the last one that was. The first one after the last notification makes the next one due at the time.
	NoteMessages(ctx context.Context, notes []store.Note, due time.Time) error
	// TakeNotifications returns at most limit notifications that are due, the first one first, and keeps them from others until
	// the time, to the millisecond.
	TakeNotifications(ctx context.Context, now, until time.Time, limit int) ([]store.Notification, error)
	// SettleNotification notes that so many of the messages of a notification that was taken were told; with 0, which means
	// that it has failed, its attempts are kept. What is left is due at the time. The repeats, each at one target, are added to what that target lacks
	// already. It changes nothing but the repeats if somebody else has taken the notification meanwhile.
	SettleNotification(ctx context.Context, n store.Notification, told int, next time.Time, repeats []store.Notification) error
	// DropNotifications forgets which messages before the time were told.
	DropNotifications(ctx context.Context, before time.Time) error
	// SaveRevocations keeps of each user the latest time before which its tokens are revoked; all are tokens_revoked. After an
	// error the same records can be saved again.
	SaveRevocations(ctx context.Context, records []events.Record) error
	// RevokedBefore returns the time in Unix seconds before which the user's tokens are revoked, or 0.
	RevokedBefore(ctx context.Context, user int64) (int64, error)
	// Progress returns, by partition, the position up to which the handler is done with everything, as AdvanceProgress has noted.
	Progress(ctx context.Context, handler string) (map[int32]int64, error)
	// AdvanceProgress notes that the handler is done with everything up to the position. It never goes back.
	AdvanceProgress(ctx context.Context, handler string, done events.Position) error
	// SaveErasure notes that what the user has written up to these positions, by partition, is erased. It never moves an
	// erasure back. What is saved from then on lacks what is erased; what a store has already is emptied by EraseIn.
	SaveErasure(ctx context.Context, user int64, through map[int32]int64) error
	// EraseIn empties, in a conversation and after the position, some of what the user's erasure covers: messages become
	// recalled ones, of which no version is kept; groups and changes lose the names that the user has given; settings are reset. It looks at
	// no more than store.ErasedAtOnce messages, and returns how many it has emptied and after which position to go on, or 0
	// once nothing is left.
	EraseIn(ctx context.Context, user int64, conversation string, after int64) (messages int, next int64, err error)
	// EraseAccount drops the user's subscriptions and notifications and, unless it is online, when it was seen last.
	EraseAccount(ctx context.Context, user int64) error
	// CountMessages counts those messages among the records, all of one partition and ascending, that the series has not
	// counted yet: replays by their own position, others after the highest one. If it fails the same records may be counted
	// again.
	CountMessages(ctx context.Context, series string, records []events.Record, now time.Time) error
	// DropBuckets deletes what is no longer kept of the series.
	DropBuckets(ctx context.Context, series string, now time.Time) error
	// Buckets returns the buckets of the series that begin at the time or later, in ascending order.
	Buckets(ctx context.Context, series string, span store.Span, since int64) ([]store.Bucket, error)
	// Busiest returns the conversations with the most messages in those buckets, the busiest first.
	Busiest(ctx context.Context, series string, span store.Span, since int64, limit int) ([]store.Busy, error)
	// Ping returns an error if the store cannot be reached.
	Ping(ctx context.Context) error
	// Close ends the use of the store.
	Close() error
}

// Run runs the suite. Every test gets an empty store from open, which closes it when the test ends.
func Run(t *testing.T, open func(*testing.T) Store) {
	for _, subject := range []struct {
		name  string
		tests []test
	}{
		{"messages", messageTests()},
		{"history", historyTests()},
		{"changes", changeTests()},
		{"versions", versionTests()},
		{"extra", extraTests()},
		{"settings", settingTests()},
		{"groups", groupTests()},
		{"roles", roleTests()},
		{"rules", ruleTests()},
		{"heads", headTests()},
		{"missed", missedTests()},
		{"positions", positionTests()},
		{"progress", progressTests()},
		{"webhooks", webhookTests()},
		{"users", userTests()},
		{"subscriptions", subscriptionTests()},
		{"blocks", blockTests()},
		{"notifications", notificationTests()},
		{"revocations", revocationTests()},
		{"statistics", statisticTests()},
		{"erasures", erasureTests()},
	} {
		t.Run(subject.name, func(t *testing.T) {
			for _, test := range subject.tests {
				t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
			}
		})
	}
}

type test struct {
	name string
	run  func(*testing.T, Store)
}
