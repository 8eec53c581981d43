package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"millrace/infra/config"
	millracev1 "millrace/proto/millrace/v1"
)

// eraseTimeout is how long one call may take that erases a part.
const eraseTimeout = 30 * time.Second

func newEraseCommand() *cobra.Command {
	var (
		cfg  config.Config
		user int64
	)
	cmd := &cobra.Command{
		Use:   "erase --user=ID",
		Short: "Empty what a user has written, for good",
		Long: `Empty what a user has written until now. Its messages are then as if they had been recalled, in their places, so that the order,
unread counts and everybody's cursors stay whole. Removed are also the names that it has given to groups, what it has set for
conversations, its subscriptions for notifications and when it was seen last. Nothing brings that back: also storage that reads
the log again keeps it empty.

The log itself, and what has read it, keep it for their time: the README of services/api says what stays where. The user is not
kept out: see "token revoke". What it writes later is kept.

The command ends with 0 once all is empty. After an error repeat it, which is safe.`,
		Example: `  millrace token revoke --user=1001
  millrace erase --user=1001`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			if err := checkUser(user); err != nil {
				return usageError{err}
			}
			emptied, err := erase(cmd.Context(), &cfg, user)
			if err != nil {
				return fmt.Errorf("erase, after %d messages: %w", emptied, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "erased: user %d, %d messages\n", user, emptied)
			return nil
		},
	}
	cfg.BindOperator(cmd.Flags())
	cmd.Flags().Int64Var(&user, "user", 0, "user id")
	_ = cmd.MarkFlagRequired("user") // fails only for a flag that does not exist
	return cmd
}

// erase makes calls until nothing is left to erase, and returns how many messages they have emptied.
func erase(ctx context.Context, cfg *config.Config, user int64) (emptied int64, err error) {
	request := &millracev1.EraseUserRequest{User: user}
	for more := true; more && err == nil; more = request.GetNext() != "" {
		err = asOperator(ctx, cfg, eraseTimeout, func(ctx context.Context, c millracev1.OperatorServiceClient) error {
			response, err := c.EraseUser(ctx, request, grpc.WaitForReady(true))
			emptied += response.GetMessages()
			request.Next = response.GetNext()
			return err
		})
	}
	return emptied, err
}
