package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newPoisonDiscardCommand() *cobra.Command {
	var o poisonOptions
	cmd := &cobra.Command{
		Use:   "discard [ID...]",
		Short: "Be done with records that nobody wants handled",
		Long: `Be done with records that nobody wants handled, such as those that were never Millrace's: they count as replayed, so that
they are listed with --replayed only, and no alert is about them. They stay in the queue.`,
		Example: "  millrace poison discard --reason=undecodable --dry-run",
		RunE: func(cmd *cobra.Command, ids []string) error {
			queue, entries, closeBus, err := o.choose(cmd, ids)
			if err != nil {
				return err
			}
			defer closeBus()
			if o.dryRun {
				return printEntries(cmd.OutOrStdout(), o.filter.Select(entries))
			}
			n, err := queue.Discard(cmd.Context(), entries, o.filter)
			fmt.Fprintf(cmd.OutOrStdout(), "%s discarded\n", counted(n, "record", "records"))
			return err
		},
	}
	o.bindChoice(cmd)
	return cmd
}
