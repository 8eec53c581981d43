package mongo

import (
	"context"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

// readersOf is the query for the present participants of a conversation who have read at least up to seq.
func (db *DB) readersOf(conversation string, group bool, seq int64, limit int) query {
	filter := doc(field("conversation", conversation))
	if group {
		filter = append(filter, field("joined", doc(field("$gt", int64(0)))))
	}
	return query{
		of: db.participants, filter: append(filter, field("read_seq", doc(field("$gte", seq)))),
		sort: doc(field("user", 1)), limit: limit,
	}
}

// Readers returns at most limit users, by ascending user, who have read the conversation at least up to seq: of a direct
// conversation both, of a group its present members.
func (db *DB) Readers(ctx context.Context, conversation string, seq int64, limit int) ([]store.Reader, error) {
	parsed, err := events.ParseConversation(conversation)
	if err != nil {
		return nil, err
	}
	found, err := find[participant](ctx, db.readersOf(conversation, parsed.GroupID != 0, seq, limit))
	if err != nil {
		return nil, fmt.Errorf("readers of %s: %w", conversation, err)
	}
	var readers []store.Reader
	for _, p := range found {
		readers = append(readers, store.Reader{User: p.User, Seq: p.ReadSeq})
	}
	return readers, nil
}
