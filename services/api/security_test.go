package api

import (
	"bytes"
	"crypto/tls"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every point of the table names tests, and all of them exist.
func TestTheTableOfSecurityNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	named, test := regexp.MustCompile("`(Test\\w+)`"), regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	exist := map[string]bool{}
	require.NoError(t, fs.WalkDir(os.DirFS("../.."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "node_modules"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		data, err := os.ReadFile(filepath.Join("../..", path))
		for _, found := range test.FindAllSubmatch(data, -1) {
			exist[string(found[1])] = true
		}
		return err
	}))
	point := regexp.MustCompile(`^\| (\d+\.\d+\.\d+) \|`)
	points := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		id := point.FindStringSubmatch(line)
		if id == nil {
			continue
		}
		require.False(t, points[id[1]], "%s is there twice", id[1])
		points[id[1]] = true
		tests := named.FindAllStringSubmatch(line, -1)
		require.NotEmpty(t, tests, "%s names no test", id[1])
		for _, name := range tests {
			require.True(t, exist[name[1]], "%s names %s, which does not exist", id[1], name[1])
		}
	}
	require.Greater(t, len(points), 20)
}

func TestEveryResponseTellsBrowsersToMakeNothingElseOfIt(t *testing.T) {
	c := newCallers(t)
	h := c.serve(t, Config{}, &Service{Messages: &messages{}, Store: groups{}})
	for _, path := range []string{"/v1/groups/5", "/v1/nothing", "/openapi.json", "/else"} {
		for _, secure := range []bool{false, true} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Header.Set("Authorization", "Bearer "+c.secrets["read"])
			if secure {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), path)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"), path)
			require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"), path)
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'", path)
			require.Equal(t, secure, w.Header().Get("Strict-Transport-Security") != "", path)
		}
	}
}

func TestCallsByAdminsAndCallsThatAreRefusedAreLoggedWithoutTheKey(t *testing.T) {
	var log bytes.Buffer
	c, l := newCallers(t), &life{}
	h := c.serve(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, &Service{Messages: l, Store: l})
	for _, test := range []struct{ key, method, path, want string }{
		{"admin", "GET", "/v1/users/1/blocked", "level=INFO msg=\"a call by an admin key\" key=admin call=/millrace.api.v1.ApiService/ListBlocked code=OK"},
		{"read", "PUT", "/v1/users/1/blocked/2", "level=WARN msg=\"a call that the key does not permit\" key=read call=/millrace.api.v1.ApiService/BlockUser"},
		{"admin", "GET", "/v1/users/1/export", "level=INFO msg=\"a call by an admin key\" key=admin call=\"GET /v1/users/{user}/export\""},
		{"read", "GET", "/v1/users/1/export", "level=WARN msg=\"a call that the key does not permit\" key=read call=\"GET /v1/users/{user}/export\""},
		{"send", "GET", "/v1/events", "level=WARN msg=\"a call that the key does not permit\" key=send call=\"GET /v1/events\""},
	} {
		log.Reset()
		c.ask(h, test.key, test.method, test.path, "")
		require.Contains(t, log.String(), test.want)
		require.NotContains(t, log.String(), c.secrets[test.key])
	}
}
