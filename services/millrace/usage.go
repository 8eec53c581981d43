package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// exitUsage is the customary exit code of a command that was called in a wrong way; 1 is that of a command that failed.
const exitUsage = 2

// usageError says what is wrong with how a command was called or configured.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// ranError says what went wrong in a command that was called correctly.
type ranError struct{ error }

func (e ranError) Unwrap() error { return e.error }

// marked lets [exitCode] tell errors of the commands from those of cobra, which are all about usage.
func marked(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		marked(sub)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return ranError{err}
			}
			return nil
		}
	}
}

// exitCode returns the exit code of a command that returned the error.
func exitCode(err error) int {
	var usage usageError
	var ran ranError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage), !errors.As(err, &ran):
		return exitUsage
	}
	return 1
}

// wantsSubcommand is the RunE of a command that only groups others.
func wantsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
	}
	return cmd.Help()
}
