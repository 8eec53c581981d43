package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/handlers"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

func newPoisonReplayCommand() *cobra.Command {
	var (
		o    poisonOptions
		rate int
	)
	cmd := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Have records handled again, once each",
		Example: `  millrace poison replay --handler=storage --reason="panic: " --dry-run
  millrace poison replay 0:17 0:18`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if rate < 0 {
				return fmt.Errorf("--rate=%d: want records per second, 0 for no limit", rate)
			}
			queue, entries, closeBus, err := o.choose(cmd, ids)
			if err != nil {
				return err
			}
			defer closeBus()
			if o.dryRun {
				return printEntries(cmd.OutOrStdout(), o.filter.Select(entries))
			}
			var pause time.Duration
			if rate > 0 {
				pause = time.Second / time.Duration(rate)
			}
			if o.filter.NoReplay, err = noReplay(cmd.Context(), o.bus.Groups(), entries); err != nil {
				return err
			}
			done, err := queue.Replay(cmd.Context(), entries, o.filter, pause)
			fmt.Fprintf(cmd.OutOrStdout(), "%s replayed: %d to the handlers that failed, %d misplaced sent home\n",
				counted(done.ToHandlers+done.Home, "record", "records"), done.ToHandlers, done.Home)
			if done.Changes > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s replayed too\n", counted(done.Changes, "edit or recall", "edits and recalls"))
			}
			if done.Unknown > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s replayed without edits and recalls: the log no longer goes back so far\n", counted(done.Unknown, "message", "messages"))
			}
			if done.Unplaced > 0 {
				err = errors.Join(err, fmt.Errorf("%s of no conversation stay", counted(done.Unplaced, "misplaced record", "misplaced records")))
			}
			for _, handler := range slices.Sorted(maps.Keys(done.Refused)) {
				err = errors.Join(err, fmt.Errorf("%s takes no replays, for %s; not replayed: %s; discard what nobody needs",
					handler, o.filter.NoReplay[handler], strings.Join(done.Refused[handler], ", ")))
			}
			if len(done.Gone) > 0 {
				err = errors.Join(err, fmt.Errorf("the log no longer has the originals of these, of which the queue holds only the first bytes: %s",
					strings.Join(done.Gone, ", ")))
			}
			return err
		},
	}
	o.bindChoice(cmd)
	cmd.Flags().IntVar(&rate, "rate", 100, "records per second; 0: as fast as it goes")
	return cmd
}

// noReplay returns, by handler, why nothing can be replayed for it: it cannot do that, or nobody would read the replay.
func noReplay(ctx context.Context, groups pubsub.Groups, entries []*poison.Entry) (map[string]string, error) {
	failed := make(map[string]string, len(entries)) // the handler of a group
	for _, e := range entries {
		failed[e.Metadata.Get(router.PoisonGroupHeader)] = e.Handler
	}
	known, err := groups.List(ctx, func(group string) bool { return failed[group] != "" })
	if err != nil {
		return nil, err
	}
	reasons := handlers.NoReplay()
	for group, handler := range failed {
		if _, ok := known[group]; !ok && reasons[handler] == "" {
			reasons[handler] = fmt.Sprintf("its consumer group %q does not exist: the handler was retired, or has never got on", group)
		}
	}
	return reasons, nil
}
