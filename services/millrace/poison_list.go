package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"millrace/infra/poison"
)

func newPoisonListCommand() *cobra.Command {
	var (
		o      poisonOptions
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what is in the queue, and count it",
		Example: "  millrace poison list --handler=storage --since=24h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, entries, closeBus, err := o.read(cmd)
			if err != nil {
				return err
			}
			defer closeBus()
			selected := o.filter.Select(entries)
			if asJSON {
				return printJSONLines(cmd.OutOrStdout(), selected)
			}
			return printEntries(cmd.OutOrStdout(), selected)
		},
	}
	o.bindQueue(cmd)
	o.bindFilter(cmd)
	cmd.Flags().BoolVar(&o.filter.Replayed, "replayed", false, "list replayed ones too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

func printJSONLines(w io.Writer, entries []*poison.Entry) error {
	encoder := json.NewEncoder(w)
	for _, e := range entries {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// printEntries prints a table. It quotes what a producer chose, so that nothing can control the terminal.
func printEntries(w io.Writer, entries []*poison.Entry) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTIME\tHANDLER\tPOSITION\tKEY\tREASON")
	for _, e := range entries {
		reason := fmt.Sprintf("%q", e.Reason)
		if e.Replayed {
			reason += " (replayed)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%q\t%s\n", e.ID, clock(e.Time), e.Handler, e.Position, e.Key, reason)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, counted(len(entries), "record", "records"))
	return nil
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}

// printable returns the value as it is, or quoted if it could control a terminal.
func printable(value []byte) string {
	s := string(value)
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
		return strconv.Quote(s)
	}
	return s
}

func newPoisonShowCommand() *cobra.Command {
	var o poisonOptions
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print a record's headers and its value",
		Long: `Print a record's headers and its value. A value that is too long for the queue is read from the topic; where retention has
removed it there, its first bytes are printed and the command fails.`,
		Example: "  millrace poison show 0:17",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			queue, entries, closeBus, err := o.read(cmd)
			if err != nil {
				return err
			}
			defer closeBus()
			if err := missing(ids, entries); err != nil {
				return err
			}
			o.filter.IDs, o.filter.Replayed = ids, true
			e := o.filter.Select(entries)[0]
			w := cmd.OutOrStdout()
			for _, name := range slices.Sorted(maps.Keys(e.Metadata)) {
				fmt.Fprintf(w, "%s: %q\n", name, e.Metadata.Get(name))
			}
			fmt.Fprintf(w, "replayed: %t\n\n", e.Replayed)
			value, err := queue.Value(cmd.Context(), e)
			if err != nil {
				value = e.Payload
			}
			fmt.Fprintln(w, printable(value))
			return err
		},
	}
	o.bindQueue(cmd)
	return cmd
}
