package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/config"
	millracev1 "millrace/proto/millrace/v1"
)

func newNoticeCommand() *cobra.Command {
	var (
		cfg     config.Config
		request millracev1.SendNoticeRequest
		extra   string
	)
	cmd := &cobra.Command{
		Use:   "notice --content=TEXT",
		Short: "Send a notice to everybody who is online, or to some of them",
		Long: `Send a notice to everybody who is online: to the users of --users, or to those whose token has the --user-type and the
--region, as far as they are given, else to all. Every device gets it once. The command ends with 0 once the notice was
accepted, and prints its id. Who is not online then does not get it.

After an error that leaves it open whether the notice was accepted, repeat the command with the --id that it names: nobody
gets a notice twice.`,
		Example: `  millrace notice --content='Down for maintenance from 22:00 to 22:10 UTC'
  millrace notice --content='New: voice messages' --region=eu --extra='{"link":"https://example.org/voice"}'
  millrace notice --content='Please update your address' --users=1001,1002`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			if request.GetNoticeId() == "" {
				request.NoticeId = rand.Text()
			}
			request.Extra = []byte(extra)
			err := asOperator(cmd.Context(), &cfg, connectTimeout, func(ctx context.Context, c millracev1.OperatorServiceClient) error {
				_, err := c.SendNotice(ctx, &request, grpc.WaitForReady(true))
				return err
			})
			if err != nil {
				return fmt.Errorf("notice --id=%s: %w", request.GetNoticeId(), err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), request.GetNoticeId())
			return nil
		},
	}
	cfg.BindOperator(cmd.Flags())
	flags := cmd.Flags()
	flags.StringVar(&request.Content, "content", "", "text of the notice, at most 32 KiB")
	flags.StringVar(&extra, "extra", "", "JSON object for clients, at most 4 KiB")
	flags.Int64SliceVar(&request.Users, "users", nil, "ids of the users whom it is for, with commas, at most 10,000")
	flags.StringVar(&request.UserType, "user-type", "", "only for those whose token has this user_type")
	flags.StringVar(&request.Region, "region", "", "only for those whose token has this region")
	flags.StringVar(&request.NoticeId, "id", "", "id by which repeats are recognised, at most 64 bytes; empty: drawn")
	_ = cmd.MarkFlagRequired("content") // fails only for a flag that does not exist
	return cmd
}

// asOperator makes a call to the first message node, which may take some time. What is wrong with the call is an error of usage.
func asOperator(
	ctx context.Context, cfg *config.Config, atMost time.Duration, call func(context.Context, millracev1.OperatorServiceClient) error,
) error {
	conn, err := dialMessageNode(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	err = call(ctx, millracev1.NewOperatorServiceClient(conn))
	switch refused := status.Convert(err); refused.Code() {
	case codes.OK:
		return nil
	case codes.InvalidArgument, codes.OutOfRange:
		return usageError{errors.New(refused.Message())}
	default:
		return fmt.Errorf("message node %s: %s", cfg.MessageAddrs[0], refused.Message())
	}
}
