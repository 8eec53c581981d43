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

func newRevokeCommand() *cobra.Command {
	var (
		cfg    config.Config
		user   int64
		before string
	)
	cmd := &cobra.Command{
		Use:   "revoke --user=ID",
		Short: "Make a user's tokens invalid and close the sessions that have them",
		Long: `Make the tokens of a user invalid that were issued before now, or before --before, and close the sessions that have them, on
all gateways. The iat of a token says when it was issued, in seconds; one without counts as issued before. A token issued
within the very second stays valid. Nothing makes the tokens valid again: the user needs a new one.

The command ends with 0 once that is stored. After an error repeat it, which is safe. It may have taken effect nevertheless,
and does once the store is back.`,
		Example: `  millrace token revoke --user=1001
  millrace token revoke --user=1001 --before=2026-01-01T00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			if err := checkUser(user); err != nil {
				return usageError{err}
			}
			at, err := parseTime("before", before)
			if err != nil {
				return usageError{err}
			}
			request := &millracev1.RevokeTokensRequest{User: user}
			if before != "" {
				request.Before = at.Unix()
			}
			var response *millracev1.RevokeTokensResponse
			err = asOperator(cmd.Context(), &cfg, connectTimeout, func(ctx context.Context, c millracev1.OperatorServiceClient) (err error) {
				response, err = c.RevokeTokens(ctx, request, grpc.WaitForReady(true))
				return err
			})
			if err != nil {
				return fmt.Errorf("revoke: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "revoked: tokens of user %d issued before %s\n", user,
				time.Unix(response.GetBefore(), 0).UTC().Format(time.RFC3339))
			return nil
		},
	}
	cfg.BindOperator(cmd.Flags())
	cmd.Flags().Int64Var(&user, "user", 0, "user id")
	cmd.Flags().StringVar(&before, "before", "", "issued before: 1h ago, or 2006-01-02T15:04:05Z; empty: now")
	_ = cmd.MarkFlagRequired("user") // fails only for a flag that does not exist
	return cmd
}
