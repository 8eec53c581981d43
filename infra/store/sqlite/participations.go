package sqlite

import (
	"context"
	"fmt"
	"slices"
)

const participations = `SELECT c.name FROM user_conversations u JOIN conversations c ON c.id = u.conversation_id WHERE u.user = ?`

// Participations returns, in ascending order, the direct conversations of the user and the groups that it ever belonged to.
func (db *DB) Participations(ctx context.Context, user int64) ([]string, error) {
	names, err := column[string](ctx, db.readers, participations, user)
	if err != nil {
		return nil, fmt.Errorf("participations of user %d: %w", user, err)
	}
	slices.Sort(names)
	return names, nil
}
