package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"millrace/handlers"
	"millrace/infra/config"
	"millrace/infra/pubsub"
)

func newHandlersRetireCommand() *cobra.Command {
	var (
		cfg     config.Config
		version int
		yes     bool
	)
	// Only these can be set by the environment, where MILLRACE_VERSION is that of workers.
	settings := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg.BindLog(settings)
	cmd := &cobra.Command{
		Use:   "retire HANDLER",
		Short: "Delete the consumer group of a handler that another version has replaced",
		Long: `Delete the consumer group of a handler, or of a version of it, that nobody is to run again: its lag is no longer measured.
The command refuses that while processes run the handler. What the handler has kept, such as its files, stays, and so does
what it has poisoned. If somebody runs it again it begins at the oldest record.`,
		Example: "  millrace handlers retire audit --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := handlers.Version(args[0], version)
			if err := errors.Join(cfg.Load(settings), handlers.CheckRetire(name)); err != nil {
				return usageError{err}
			}
			bus, err := openBus(cmd, &cfg)
			if err != nil {
				return err
			}
			defer func() { _ = bus.Close() }() // nothing was published
			return retire(cmd, bus, name, yes)
		},
	}
	cmd.Flags().AddFlagSet(settings)
	cmd.Flags().IntVar(&version, "version", 1, "which version of it")
	cmd.Flags().BoolVar(&yes, "yes", false, "really delete it")
	return cmd
}

func retire(cmd *cobra.Command, bus pubsub.Bus, name string, yes bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), startTimeout)
	defer cancel()
	group := handlers.Group(name)
	members, err := bus.Groups().List(ctx, func(name string) bool { return name == group })
	if err != nil {
		return err
	}
	n, known := members[group]
	switch {
	case !known:
		return fmt.Errorf("there is no consumer group %s", group)
	case n > 0:
		return inUse(name, group)
	case !yes:
		return fmt.Errorf("this deletes where the consumer group %s goes on: say --yes", group)
	}
	if err := bus.Groups().Delete(ctx, group); errors.Is(err, pubsub.ErrInUse) {
		return inUse(name, group)
	} else if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s is retired: the consumer group %s is deleted; what the handler has kept stays\n", name, group)
	_, topic, _ := handlers.Of(group)
	list := handlerList{bus: bus, poisoned: make(map[string]poisoned)}
	of, err := list.poisonedBy(ctx, topic, name)
	if of.waiting > 0 {
		fmt.Fprintf(w, "the poison queue still has %s of it, which nobody can replay now: millrace poison discard --handler=%s\n",
			counted(of.waiting, "record", "records"), name)
	}
	return err
}

func inUse(name, group string) error {
	return fmt.Errorf("the consumer group %s has members: stop all processes that run %s first (one that was killed is a member for 6 s)", group, name)
}
