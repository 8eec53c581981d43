package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/millrace/proof"
	"millrace/services/web/sdk"
)

// readmePage returns the page that the SDK's README has newcomers write, of thirty lines at most.
func readmePage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../web/sdk/README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "```html\n")
	require.True(t, ok)
	page, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	require.LessOrEqual(t, strings.Count(page, "\n"), 30, "lines")
	return page
}

// write sends a text by the form of the README's page.
func (p *tab) write(words string) {
	p.t.Helper()
	p.until(`(text.value = %s, form.requestSubmit(), true)`, words)
}

// The pages are served by somebody else than Millrace, as a newcomer's are.
func TestInABrowserThePageOfTheSDKsReadmeChats(t *testing.T) {
	t.Parallel()
	page, address := readmePage(t), proof.FreeAddresses(t, 1)[0]
	mux := http.NewServeMux()
	mux.Handle("/sdk/", sdk.Handler())
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		itself := page
		if r.URL.RawQuery != "bob" { // it is loaded again while Millrace is away
			itself = strings.ReplaceAll(page, "http://127.0.0.1:8080/sdk/", server.URL+"/sdk/")
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(itself, "127.0.0.1:8080", address))
	})
	dir, flags := t.TempDir(), []string{"--connect-addr=" + address, "--allowed-origins=" + server.URL}
	d := startDevAs(t, dir, flags)
	alice, bob := browse(t, server.URL+"/"), browse(t, server.URL+"/?bob")
	alice.write("Hello, Bob")
	bob.shows("1001: Hello, Bob")
	bob.write("<i>Hello</i>, Alice")
	alice.shows("1002: <i>Hello</i>, Alice")

	d.stop()
	alice.until(`state.innerText === "waiting"`)
	alice.write("Are you there?")
	alice.shows("1001: Are you there? pending")
	alice.reload()
	alice.shows("1001: Are you there? pending")
	startDevAs(t, dir, flags)
	bob.until(`document.body.innerText.split("Are you there?").length === 2`)
	alice.until(`document.body.innerText.split("Are you there?").length === 2 && !document.body.innerText.includes("pending")`)
	alice.shows("1002: <i>Hello</i>, Alice")
}
