package chat

import (
	"context"

	"millrace/services/client"
)

// block blocks or unblocks a user, or shows whom the user blocks.
func (h *chat) block(ctx context.Context, command string, words []string) error {
	users, err := parseIDs(words)
	switch {
	case err != nil:
		return err
	case command == "/blocked" && len(users) == 0:
		if users, err = h.client.Blocked(ctx); err == nil {
			h.print.note("you block %v", users)
		}
	case command == "/block" && len(users) == 1:
		if err = h.client.Do(ctx, client.Block{User: users[0]}); err == nil {
			h.print.note("%d can no longer write to you alone", users[0])
		}
	case command == "/unblock" && len(users) == 1:
		if err = h.client.Do(ctx, client.Unblock{User: users[0]}); err == nil {
			h.print.note("%d can write to you again", users[0])
		}
	default:
		return errUsage
	}
	return err
}
