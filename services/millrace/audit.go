package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"millrace/handlers"
	"millrace/handlers/audit"
	"millrace/infra/config"
)

// auditFile returns where the audit handler appends. Another version of it has another file beside that of the first.
func auditFile(cfg *config.Config) string { return versionedFile(cfg, cfg.AuditFile, "audit.log") }

// operationsFile returns where the operations handler appends, likewise.
func operationsFile(cfg *config.Config) string {
	return versionedFile(cfg, cfg.OperationsFile, "operations.log")
}

// versionedFile returns where the version that is configured of a handler keeps its file: the first at the path or, without
// one, under the name in the data directory.
func versionedFile(cfg *config.Config, path, name string) string {
	if path == "" {
		path = filepath.Join(cfg.DataDir, name)
	}
	extension := filepath.Ext(path)
	return handlers.Version(strings.TrimSuffix(path, extension), cfg.Version) + extension
}

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Check that an audit log is as it was written",
		Args: cobra.ArbitraryArgs, RunE: wantsSubcommand,
	}
	cmd.AddCommand(newAuditVerifyCommand())
	return cmd
}

func newAuditVerifyCommand() *cobra.Command {
	var (
		cfg  config.Config
		hash string
	)
	cmd := &cobra.Command{
		Use:   "verify [FILE...]",
		Short: "Find the first line that was changed, taken out, put in or moved",
		Long: `Find the first line of an audit log that was changed, taken out, put in or moved. Each line has a number and a hash, the
SHA-256 of the hash before it and of the line up to its own hash. FILE is the log, which is read with the files that were
rotated away from it (FILE.000000000017); several are read as they are named. Without FILE it is the configured one of the
handler audit; name that of the handler operations, operations.log.

The chain has no secret. So it cannot show that the end of the log was cut off, or that somebody has written all lines from
one on anew, with new hashes. Both show to who knows a later hash: keep the last one, which this command prints, where
nobody who can write the log can write, and ask for it with --hash the next time. Files may be removed from the oldest on:
the command says where the log begins.`,
		Example: `  millrace audit verify
  millrace audit verify data/operations.log
  millrace audit verify /var/lib/millrace/audit.log --hash=62aa1c…`,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			if len(paths) == 0 {
				paths = []string{auditFile(&cfg)}
			}
			v, err := audit.Verify(hash, paths...)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s in %s, as they were written\n", counted(int(v.Lines), "line", "lines"), counted(v.Files, "file", "files"))
			if v.Older > 0 {
				fmt.Fprintf(w, "%s from before there were hashes: only a change since the first line with a hash would show\n", counted(int(v.Older), "line", "lines"))
			}
			if v.First > 1 {
				fmt.Fprintf(w, "it begins with number %d: what came before is not here\n", v.First)
			}
			if v.Partial {
				fmt.Fprintln(w, "the last line is not complete: it is being written, or a crash has left it and audit will cut it off")
			}
			if v.Last > 0 {
				fmt.Fprintf(w, "last number %d, hash %s\n", v.Last, v.Hash)
			}
			if hash != "" && !v.Found {
				return fmt.Errorf("no line has the hash %s: the log was cut off before it, or written anew", hash)
			}
			return nil
		},
	}
	cfg.BindAudit(cmd.Flags())
	cmd.Flags().StringVar(&hash, "hash", "", "fail unless a line has this hash, which an earlier run has printed")
	return cmd
}
