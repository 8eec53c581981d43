package sdk_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The unit tests in folder test are written in TypeScript and run by Node 18 or later, on a socket and a clock of their own.
func TestUnits(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node: it is in Debian's nodejs")
	}
	sources, err := filepath.Glob("test/*.test.ts")
	require.NoError(t, err)
	built := t.TempDir()
	esbuild(t, append(sources, "--platform=node", "--format=esm", "--target=node18", "--out-extension:.js=.mjs", "--sourcemap=inline",
		"--outdir="+built)...)
	tests, err := filepath.Glob(filepath.Join(built, "*.mjs"))
	require.NoError(t, err)
	require.Len(t, tests, len(sources))
	out, err := exec.CommandContext(t.Context(), node, append([]string{"--enable-source-maps", "--test"}, tests...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, regexp.MustCompile(`(?m)^\W+ pass [1-9]`), string(out), "no test has run")
	t.Logf("%s", bytes.TrimSpace(out[max(0, len(out)-200):]))
}
