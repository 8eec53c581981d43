package sdk_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "build dist anew")

// maxBytes is what the SDK may take gzipped, without the store of its outbox.
const maxBytes = 8 << 10

// esbuild runs the bundler, which is a Go module, in this folder.
func esbuild(t *testing.T, args ...string) {
	t.Helper()
	all := append([]string{"tool", "-modfile=../../../.tools/esbuild.mod", "esbuild", "--bundle", "--log-level=warning"}, args...)
	out, err := exec.CommandContext(t.Context(), "go", all...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// bundle returns the SDK as one file.
func bundle(t *testing.T, args ...string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.js")
	esbuild(t, append([]string{"src/index.ts", "--minify", "--target=es2022", "--outfile=" + file}, args...)...)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return content
}

func TestBuiltFilesAreCurrent(t *testing.T) {
	for name, args := range map[string][]string{
		"millrace.js":        {"--format=esm"},
		"millrace.global.js": {"--format=iife", "--global-name=Millrace"},
	} {
		fresh, file := bundle(t, args...), filepath.Join("dist", name)
		if *update {
			require.NoError(t, os.MkdirAll("dist", 0o755))
			require.NoError(t, os.WriteFile(file, fresh, 0o644))
		}
		committed, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(fresh, committed), "%s is older than src: run go generate ./services/web/sdk", file)
	}
}

func TestTheSDKIsSmall(t *testing.T) {
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(bundle(t, "--format=esm", "--external:./indexeddb.js"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	t.Logf("%d bytes gzipped", zipped.Len())
	require.LessOrEqual(t, zipped.Len(), maxBytes)
}

// compiler returns the command of a TypeScript compiler, 4.8 or later.
func compiler(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"node_modules/.bin/tsc", "tsc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no tsc: it is in Debian's node-typescript, or run npm install here")
	return ""
}

// This also checks all types strictly. Compilers of different versions write the same declarations with other words and spaces.
func TestBuiltTypesAreCurrent(t *testing.T) {
	tsc, fresh := compiler(t), t.TempDir()
	out, err := exec.CommandContext(t.Context(), tsc, "-p", ".", "--outDir", fresh).CombinedOutput()
	require.NoError(t, err, "%s", out)
	if *update {
		require.NoError(t, os.RemoveAll("dist/types"))
		require.NoError(t, os.CopyFS("dist/types", os.DirFS(fresh)))
	}
	require.Equal(t, declarations(t, fresh), declarations(t, "dist/types"), "run go generate ./services/web/sdk")
}

// declarations returns the files by name, without spaces and optional words.
func declarations(t *testing.T, folder string) map[string]string {
	t.Helper()
	optional := regexp.MustCompile(`\bdeclare\b|[\s;]+`)
	files := map[string]string{}
	require.NoError(t, fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(folder, path))
		files[path] = optional.ReplaceAllString(string(content), "")
		return err
	}))
	return files
}

// Who installs the package gets every file that package.json names.
func TestThePackageHasWhatItNames(t *testing.T) {
	text, err := os.ReadFile("package.json")
	require.NoError(t, err)
	var manifest struct {
		Exports map[string]map[string]string `json:"exports"`
		Files   []string                     `json:"files"`
	}
	require.NoError(t, json.Unmarshal(text, &manifest))
	require.NotEmpty(t, manifest.Exports["."])
	for _, file := range manifest.Exports["."] {
		require.FileExists(t, file)
		require.True(t, strings.HasPrefix(file, "./"+manifest.Files[0]+"/"), file)
	}
}
