package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/handlers/webhook"
	"millrace/infra/config"
	"millrace/infra/signature"
	"millrace/infra/store/mongo"
	"millrace/infra/store/sqlite"
)

func newWebhookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Test HTTP endpoints that events are sent to, list them, and enable them again",
		Long: `Test, list and enable the endpoints in the file of MILLRACE_WEBHOOKS, to which the webhook handler sends events.

An endpoint that answers 410 Gone is disabled: its events wait in the log until it is enabled again, or has another URL in
the file.`,
		Args: cobra.ArbitraryArgs,
		RunE: wantsSubcommand,
	}
	cmd.AddCommand(newWebhookTestCommand(), newWebhookListCommand(), newWebhookEnableCommand())
	return cmd
}

func newWebhookTestCommand() *cobra.Command {
	var (
		cfg           config.Config
		name, secrets string
		e             = webhook.Endpoint{Parallel: 1}
	)
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Send a signed event of the type ping, and print what the endpoint answers",
		Example: `  millrace webhook test --name=crm --webhooks=webhooks.yaml
  millrace webhook test --url=https://example.com/hook --secret=whsec_…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			switch {
			case name != "" && e.URL == "" && secrets == "":
				e, err = configuredWebhook(&cfg, name)
			case name == "" && e.URL != "" && secrets != "":
				e.Keys, err = signature.ParseKeys(secrets)
			default:
				err = errors.New("want either --name of an endpoint in the file, or --url and --secret of any other")
			}
			if err != nil {
				return usageError{err}
			}
			pinged, err := webhook.Ping(cmd.Context(), e, "ping_"+rand.Text())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s in %s\n", pinged.Status, pinged.Took.Round(time.Millisecond/10))
			if !pinged.OK {
				return errors.New("the endpoint does not take it")
			}
			return nil
		},
	}
	cfg.BindWebhook(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", "", "endpoint in the file")
	cmd.Flags().StringVar(&e.URL, "url", "", "endpoint that is in no file")
	cmd.Flags().StringVar(&secrets, "secret", "", "with --url: its secret, or several with commas between")
	cmd.Flags().BoolVar(&e.AllowPrivate, "allow-private", false, "with --url: allow private addresses, and HTTP without TLS to these")
	cmd.Flags().DurationVar(&e.Timeout, "timeout", 5*time.Second, "with --url: how long to wait for the answer")
	return cmd
}

// configuredWebhook returns the endpoint of the name from the file.
func configuredWebhook(cfg *config.Config, name string) (webhook.Endpoint, error) {
	endpoints, err := readWebhooks(cfg)
	if err != nil {
		return webhook.Endpoint{}, err
	}
	i := slices.IndexFunc(endpoints, func(e webhook.Endpoint) bool { return e.Name == name })
	if i < 0 {
		return webhook.Endpoint{}, fmt.Errorf("%s has no endpoint %q", cfg.Webhooks, name)
	}
	return endpoints[i], nil
}

// readWebhooks reads the file of the endpoints.
func readWebhooks(cfg *config.Config) ([]webhook.Endpoint, error) {
	if cfg.Webhooks == "" {
		return nil, fmt.Errorf("%s (--webhooks) must name the file of the endpoints", config.EnvName("webhooks"))
	}
	endpoints, err := webhook.ReadFile(cfg.Webhooks)
	if err != nil {
		return nil, fmt.Errorf("%s (--webhooks): %w", config.EnvName("webhooks"), err)
	}
	return endpoints, nil
}

func newWebhookListCommand() *cobra.Command {
	var cfg config.Config
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the endpoints in the file, and which of them are disabled",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			endpoints, err := readWebhooks(&cfg)
			if err != nil {
				return usageError{err}
			}
			return withStore(cmd.Context(), &cfg, func(ctx context.Context, db storeBackend) error {
				return listWebhooks(ctx, cmd.OutOrStdout(), db, endpoints)
			})
		},
	}
	cfg.BindWebhook(cmd.Flags())
	return cmd
}

func listWebhooks(ctx context.Context, w io.Writer, db storeBackend, endpoints []webhook.Endpoint) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tORDER\tTYPES")
	for _, e := range endpoints {
		disabled, err := db.WebhookDisabled(ctx, e.Name, e.URL)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", e.Name, map[bool]string{true: "disabled", false: "enabled"}[disabled],
			map[bool]string{true: "conversation", false: "none"}[e.InOrder], typesOf(&e))
	}
	return table.Flush()
}

func typesOf(e *webhook.Endpoint) string {
	if len(e.Types) == 0 {
		return "all"
	}
	return fmt.Sprint(e.Types)
}

func newWebhookEnableCommand() *cobra.Command {
	var cfg config.Config
	cmd := &cobra.Command{
		Use:     "enable NAME",
		Short:   "Send events again to an endpoint that was disabled because it answered 410 Gone",
		Long:    `Send events again to an endpoint that was disabled because it answered 410 Gone, from where they stopped, within some seconds.`,
		Example: "  millrace webhook enable crm",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			return withStore(cmd.Context(), &cfg, func(ctx context.Context, db storeBackend) error {
				was, err := db.EnableWebhook(ctx, names[0])
				switch {
				case err != nil:
					return err
				case !was:
					return fmt.Errorf("%s is not disabled", names[0])
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is enabled\n", names[0])
				return nil
			})
		},
	}
	cfg.BindWebhook(cmd.Flags())
	return cmd
}

// withStore calls f with the configured store, which must be there already.
func withStore(ctx context.Context, cfg *config.Config, f func(context.Context, storeBackend) error) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	db, err := existingStore(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, db), db.Close())
}

func existingStore(ctx context.Context, cfg *config.Config) (storeBackend, error) {
	if cfg.MongoDBURI != "" {
		return mongo.Open(ctx, cfg.MongoDBURI)
	}
	path := filepath.Join(cfg.DataDir, storeFile)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, path)
}
