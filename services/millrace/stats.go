package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"millrace/infra/auth"
	"millrace/infra/config"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

func newStatsCommand() *cobra.Command {
	var (
		cfg           config.Config
		span          string
		request       millracev1.StatisticsRequest
		asJSON, watch bool
	)
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Print what the analytics handler has counted: messages, users and conversations by minute, hour or day",
		Long: `Print what the analytics handler has counted: messages, the users who have sent some of them and the conversations that have
some, by minute, hour or day (UTC), and the conversations with the most messages in that time. The last columns say which
share of the messages was counted within 2, 5 and 60 s after it was accepted; that is how far the handler was behind, to
which timestamps in whole seconds and the half second for which it gathers messages add.`,
		Example: `  millrace stats --span=hour --last=24 --top=3
  millrace stats --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			number := millracev1.StatisticsSpan(store.SpanNumber(span))
			if number == millracev1.StatisticsSpan_STATISTICS_SPAN_UNSPECIFIED {
				return usageError{fmt.Errorf("--span=%s: want minute, hour or day", span)}
			}
			request.Span, request.Version = number, int32(cfg.Version)
			conn, err := dialMessageNode(&cfg)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			output := printStats
			if asJSON {
				output = printStatsJSON
			}
			return repeatedly(cmd, watch, asJSON, func() error {
				ctx, cancel := context.WithTimeout(cmd.Context(), connectTimeout)
				defer cancel()
				response, err := millracev1.NewStatisticsServiceClient(conn).Statistics(ctx, &request, grpc.WaitForReady(true))
				if err != nil {
					return err
				}
				return output(cmd.OutOrStdout(), response)
			})
		},
	}
	cfg.BindStats(cmd.Flags())
	cmd.Flags().StringVar(&span, "span", "minute", "minute, hour or day")
	cmd.Flags().Int32Var(&request.Last, "last", 10, "how many of them, the present one included")
	cmd.Flags().Int32Var(&request.Top, "top", 5, "how many conversations")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "print again every 2 s until interrupted")
	return cmd
}

// repeatedly calls f once or, to watch, every 2 s until the command is interrupted. An empty line divides tables.
func repeatedly(cmd *cobra.Command, watch, asJSON bool, f func() error) error {
	for {
		if err := f(); cmd.Context().Err() == nil && (err != nil || !watch) {
			return err
		}
		select {
		case <-time.After(watchInterval):
			if !asJSON {
				fmt.Fprintln(cmd.OutOrStdout())
			}
		case <-cmd.Context().Done():
			return nil
		}
	}
}

// dialMessageNode returns a connection to the first message node.
func dialMessageNode(cfg *config.Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if cfg.ServiceTLS {
		files, err := cfg.ServiceTLSFiles.Load()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(files)
	}
	return grpc.NewClient("dns:///"+cfg.MessageAddrs[0], append(auth.ServiceToken(cfg.ServiceToken).DialOptions(),
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy())...)
}

// printStats prints tables. It quotes nothing: a conversation's name is made of numbers.
func printStats(w io.Writer, r *millracev1.StatisticsResponse) error {
	if len(r.GetBuckets()) == 0 {
		_, err := fmt.Fprintln(w, "Nothing was counted in this time. Only the analytics handler counts, while it runs.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "START\tMESSAGES\tUSERS\tCONVERSATIONS\t≤2s\t≤5s\t≤60s")
	for _, b := range r.GetBuckets() {
		share := func(n int64) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(b.GetMessages())) }
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", time.Unix(b.GetStart(), 0).UTC().Format(time.RFC3339),
			b.GetMessages(), b.GetUsers(), b.GetConversations(), share(b.GetWithin_2S()), share(b.GetWithin_5S()), share(b.GetWithin_60S()))
	}
	if len(r.GetConversations()) > 0 {
		fmt.Fprintln(table, "\nCONVERSATION\tMESSAGES")
	}
	for _, c := range r.GetConversations() {
		fmt.Fprintf(table, "%s\t%d\n", c.GetConversation(), c.GetMessages())
	}
	return table.Flush()
}

func printStatsJSON(w io.Writer, r *millracev1.StatisticsResponse) error {
	return json.NewEncoder(w).Encode(r)
}
