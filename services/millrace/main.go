// Command millrace is the whole backend: one binary with a subcommand for each role that a process can have.
//
// Every role is a set of fx modules (wire_*.go), which the same code starts and stops (app.go). The roles are listed in
// roles.go.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"millrace/infra/redis"
	"millrace/services/millrace/bench"
	"millrace/services/millrace/chat"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go forceOnSecondSignal(ctx)
	redis.Silence()
	if err := newRootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "millrace:", err)
		os.Exit(exitCode(err))
	}
}

// forceOnSecondSignal ends the process at once when a second signal comes while the first one is being obeyed.
func forceOnSecondSignal(stopping context.Context) {
	<-stopping.Done()
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	<-again
	os.Exit(130)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "millrace",
		Short: "An event-driven instant-messaging backend",
		Long: `Millrace is an event-driven instant-messaging backend. A message is accepted once it is in Kafka; storing it and
pushing it to its readers are independent consumers.

Try it:
  millrace dev                                  everything in one process
  millrace client --user=1001 --target=1002     a terminal chat; start a second one for 1002`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(&cobra.Group{ID: groupServers, Title: "Servers:"}, &cobra.Group{ID: groupTools, Title: "Tools:"})
	for _, r := range roles() {
		root.AddCommand(newRoleCommand(r))
	}
	for _, tool := range []*cobra.Command{
		chat.NewCommand(), bench.NewCommand(), newTokenCommand(), newAPIKeyCommand(), newHandlersCommand(), newPoisonCommand(), newRulesCommand(), newAuditCommand(),
		newWebhookCommand(), newNotifyCommand(), newNoticeCommand(), newEraseCommand(), newStatsCommand(), newHealthyCommand(),
	} {
		tool.GroupID = groupTools
		root.AddCommand(tool)
	}
	marked(root)
	return root
}

const (
	groupServers = "servers"
	groupTools   = "tools"
)
