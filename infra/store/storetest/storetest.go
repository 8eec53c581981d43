// Package storetest is the contract of a store: what every implementation answers after what was saved. It asks for no
// more between a message and the stored position than that the position is never ahead, so that a store without
// transactions over several documents passes too.
package storetest

import (
	"context"
	"testing"

	"millrace/events"
	"millrace/infra/store"
)

// Store is all that the program asks of a store. Its methods are called concurrently, and from several processes at once.
// Errors that trying again may mend are plain; [events.Permanent] marks a record that can never be stored.
type Store interface {
	// SaveBatch stores records of many partitions, ascending within each, and answers an error for each. It is idempotent,
	// and one bad record keeps no other from being stored. Of records with the same message id the lowest position is
	// kept. Per partition the stored position advances to the highest seq in the batch.
	SaveBatch(ctx context.Context, records []events.Record) []error
	// History returns a page in ascending seq and whether the direction asked for has more. Recalled messages come
	// without content.
	History(ctx context.Context, conversation string, page store.Page) (messages []store.StoredMessage, more bool, err error)
	// Message answers one message of the conversation, or store.ErrNotFound.
	Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error)
	// SentAt returns the timestamps of those of the messages that are stored.
	SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error)
	// HasChange reports whether an edit, recall or change of membership with the event id has had an effect on the
	// conversation.
	HasChange(ctx context.Context, conversation, eventID string) (bool, error)
	// ReadMark returns the seq up to which the user has read the conversation, 0 if it has read nothing.
	ReadMark(ctx context.Context, user int64, conversation string) (int64, error)
	// Heads returns, from behind the place on, the user's direct conversations and the groups it is a member of, in the order
	// of their places, at most limit, and whether there are more.
	Heads(ctx context.Context, user int64, behind store.Place, limit int) (heads []store.Head, more bool, err error)
	// Missed returns the events in the ranges that concern the user, at most limit, ascending within each partition: messages as
	// they are now, and of a message that was recalled since no edits; of a stay in a group that has ended, as all that was at
	// its end. It leaves out what happened to messages from before a stay.
	Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error)
	// Memberships answers the groups that the user is a member of now, in no order.
	Memberships(ctx context.Context, user int64) ([]store.Membership, error)
	// Stays answers all stays of the user in the group, the first one first.
	Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error)
	// Group returns a group, or store.ErrNotFound.
	Group(ctx context.Context, groupID int64) (store.Group, error)
	// Members returns who belongs to a group now, ascending: nobody if there is no such group.
	Members(ctx context.Context, groupID int64) ([]int64, error)
	// ReserveGroup returns the id of the group that the owner creates with the client_msg_id: the drawn one, unless an id is
	// reserved for the two already, or a group_created that was saved has named the two.
	ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error)
	// Stored returns per partition up to where everything is stored or done with otherwise; what is absent is 0.
	Stored(ctx context.Context) (map[int32]int64, error)
	// Advance notes that everything up to the positions is done with. It takes no stored position back.
	Advance(ctx context.Context, positions map[int32]int64) error
	// Epochs returns the topic's epochs, the zero value if none were ever set.
	Epochs(ctx context.Context, topic string) (events.Epochs, error)
	// SetEpochs sets the topic's epochs if their version is the one after that of those there are, 1 where there are none,
	// which it reports.
	SetEpochs(ctx context.Context, topic string, epochs events.Epochs) (set bool, err error)
	// Ping reports whether the store can be reached.
	Ping(ctx context.Context) error
	// Close ends the use of the store.
	Close() error
}

// Run tests stores that open answers. Every one of them must be empty; open closes it when its test ends.
func Run(t *testing.T, open func(*testing.T) Store) {
	for _, subject := range []struct {
		name  string
		tests []test
	}{
		{"messages", messageTests()},
		{"history", historyTests()},
		{"changes", changeTests()},
		{"versions", versionTests()},
		{"groups", groupTests()},
		{"rules", ruleTests()},
		{"heads", headTests()},
		{"missed", missedTests()},
		{"positions", positionTests()},
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
