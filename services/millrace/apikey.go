package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"millrace/infra/auth"
	"millrace/infra/config"
)

func newAPIKeyCommand() *cobra.Command {
	var (
		name   string
		scopes []string
	)
	cmd := &cobra.Command{
		Use:   "api-key --name=NAME --scopes=read,send",
		Short: "Draw a key for the API for backends",
		Long: `Draw a key for the API for backends. The key is printed once, for the backend; the server's configuration gets the line with its
hash. The scopes are read (history, conversations, groups, statistics), send (messages, edits, recalls, groups) and admin
(everything). A token for a user takes read and send.`,
		Example: "  millrace api-key --name=shop --scopes=read,send",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var wanted []auth.Scope
			for _, s := range scopes {
				wanted = append(wanted, auth.Scope(s))
			}
			secret, setting, err := auth.DrawAPIKey(name, wanted)
			if err != nil {
				return usageError{err}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key, for the backend:\n  %s\nsetting, for the message nodes (several with commas between):\n  %s=%s\n",
				secret, config.EnvName("api-keys"), setting)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the key, which logs and limits go by")
	cmd.Flags().StringSliceVar(&scopes, "scopes", nil, "what it permits: read, send, admin, with commas between")
	for _, required := range []string{"name", "scopes"} {
		_ = cmd.MarkFlagRequired(required) // fails only for a flag that does not exist
	}
	return cmd
}
