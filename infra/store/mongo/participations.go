package mongo

import (
	"context"
	"fmt"
	"slices"
)

// Participations returns, in ascending order, the direct conversations of the user and the groups that it ever belonged to.
func (db *DB) Participations(ctx context.Context, user int64) ([]string, error) {
	found, err := find[participant](ctx, db.participantsOf(user))
	if err != nil {
		return nil, fmt.Errorf("participations of user %d: %w", user, err)
	}
	var names []string
	for _, p := range found {
		names = append(names, p.Conversation)
	}
	slices.Sort(names)
	return names, nil
}
