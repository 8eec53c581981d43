// Package pagetest checks what all pages have in common.
package pagetest

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named matches the files that a file names.
var named = regexp.MustCompile(`(?:src|href|from|import)\s*=?\s*"([^"]+)"`)

// MadeOfOwnFiles checks that the page at the path, whose files are in the folder page, loads files that are all there, and
// nothing from elsewhere, and that no script or style stands inside of it. The handler serves everything of its origin.
func MadeOfOwnFiles(t *testing.T, handler http.Handler, path string) {
	t.Helper()
	ask := func(path string) *httptest.ResponseRecorder {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		return recorder
	}
	got := ask(path)
	require.Equal(t, http.StatusOK, got.Code)
	require.Contains(t, got.Header().Get("Content-Type"), "text/html")
	require.Contains(t, got.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, got.Header().Get("Content-Security-Policy"), "unsafe")

	require.NoError(t, fs.WalkDir(os.DirFS("page"), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join("page", file))
		require.NoError(t, err)
		require.NotRegexp(t, `<script[^>]*>[^<]|<style| style="| on\w+="|innerHTML|https?://(?:[^w]|w[^w])`, string(text), file)
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			switch name := match[1]; {
			case name == "data:," || name[0] == '#':
			case name[0] == '/':
				require.Equal(t, http.StatusOK, ask(name).Code, "%s names %s", file, name)
			default:
				require.Equal(t, http.StatusOK, ask(path+strings.TrimPrefix(name, "./")).Code, "%s names %s", file, name)
			}
		}
		require.Equal(t, string(text), ask(path+strings.TrimSuffix(file, "index.html")).Body.String())
		return nil
	}))
	require.Equal(t, http.StatusOK, ask(path+"dom.js").Code)
	require.Equal(t, http.StatusNotFound, ask(path+filepath.Base(strings.TrimSuffix(path, "/"))+".go").Code)
}
