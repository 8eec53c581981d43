package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/web/console"
)

func ask(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	console.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return recorder
}

// The page loads its own files, which are all there, and nothing from elsewhere; no script or style stands inside of it.
func TestThePageIsMadeOfItsOwnFiles(t *testing.T) {
	got := ask(t, "/console/")
	require.Equal(t, http.StatusOK, got.Code)
	require.Contains(t, got.Header().Get("Content-Type"), "text/html")
	require.Contains(t, got.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, got.Header().Get("Content-Security-Policy"), "unsafe")

	named := regexp.MustCompile(`(?:src|href|from|import)\s*=?\s*"([^"]+)"`)
	require.NoError(t, fs.WalkDir(os.DirFS("page"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join("page", path))
		require.NoError(t, err)
		require.NotRegexp(t, `<script[^>]*>[^<]|<style| style="| on\w+="|innerHTML|https?://(?:[^w]|w[^w])`, string(text), path)
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			if match[1] != "data:," && match[1][0] != '#' {
				require.Equal(t, http.StatusOK, ask(t, "/console/"+match[1]).Code, "%s names %s", path, match[1])
			}
		}
		require.Equal(t, string(text), ask(t, "/console/"+path).Body.String()+map[bool]string{true: string(text)}[path == "index.html"])
		return nil
	}))
	require.Equal(t, http.StatusNotFound, ask(t, "/console/console.go").Code)
}
