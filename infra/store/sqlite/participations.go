package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

const participations = `SELECT c.name FROM user_conversations u JOIN conversations c ON c.id = u.conversation_id WHERE u.user = ?`

// Participations returns, in ascending order, the direct conversations of the user and the groups that it ever belonged to.
func (db *DB) Participations(ctx context.Context, user int64) (names []string, err error) {
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, participations, []any{user}, func(rows *sql.Rows) error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("participations of user %d: %w", user, err)
	}
	slices.Sort(names)
	return names, nil
}
