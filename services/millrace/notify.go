package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/handlers/notify"
	"millrace/infra/config"
)

func newNotifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Draw the keys for Web Push, and test whether a user's notifications arrive",
		Long:  `Draw the keys by which push services recognise this server, and test whether a user's notifications arrive.`,
		Args:  cobra.ArbitraryArgs,
		RunE:  wantsSubcommand,
	}
	cmd.AddCommand(newNotifyKeysCommand(), newNotifyTestCommand())
	return cmd
}

func newNotifyKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keys",
		Short: "Draw a key pair and print it",
		Long: `Draw a key pair (VAPID, RFC 8292) and print it. Browsers subscribe with the public key, as applicationServerKey of
pushManager.subscribe; give the private one to workers as MILLRACE_VAPID_KEY and to nobody else. Browsers that have
subscribed with one key take nothing that is signed with another.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := notify.GenerateKeys()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "public key  %s\nMILLRACE_VAPID_KEY=%s\n", keys.Public, keys.Private)
			return nil
		},
	}
}

func newNotifyTestCommand() *cobra.Command {
	var (
		cfg  config.Config
		user int64
	)
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Send a test notification to all browsers of a user and to all endpoints, and print each one's outcome",
		Long: `Send a test notification to all browsers with which the user has subscribed, and to all endpoints that get notifications,
and print each one's outcome. It goes out whether or not the user is online. A browser that has unsubscribed is forgotten.`,
		Example: "  millrace notify test --user=1002",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := cfg.Load(cmd.Flags())
			if user < 1 || user > events.MaxID {
				err = errors.Join(err, errors.New("--user must be the id of a user"))
			}
			c, configErr := notifyConfig(&cfg)
			if err := errors.Join(err, configErr); err != nil {
				return usageError{err}
			}
			return withStore(cmd.Context(), &cfg, func(_ context.Context, db storeBackend) error {
				n := notify.New(c, notifyStore{db}, nil, slog.New(slog.DiscardHandler))
				defer n.Close()
				tried, err := n.Try(cmd.Context(), user) // which takes its time
				if err != nil {
					return err
				}
				return printTried(cmd.OutOrStdout(), user, tried)
			})
		},
	}
	cfg.BindNotify(cmd.Flags())
	cmd.Flags().Int64Var(&user, "user", 0, "user to notify")
	return cmd
}

// printTried prints the outcomes and returns an error unless all targets have taken the test, and there is one.
func printTried(w io.Writer, user int64, tried []notify.Tried) error {
	if len(tried) == 0 {
		return fmt.Errorf("user %d has subscribed with no browser, and there is no endpoint", user)
	}
	failed := 0
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, one := range tried {
		outcome := "sent"
		if one.Err != nil {
			outcome = one.Err.Error()
			failed++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", one.Target, one.Took.Round(time.Millisecond/10), outcome)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d have not taken it", failed, len(tried))
	}
	return nil
}
