package chat

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/client/clienttest"
)

func TestTokensComeFromWhereTheyShould(t *testing.T) {
	sign := func(user int64) (string, error) { return fmt.Sprint("made for ", user), nil }
	f := clienttest.New(t)
	production := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(production.Close)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of \x1border", 500) }))
	t.Cleanup(broken.Close)
	ws := func(url string) string { return strings.Replace(url, "http:", "ws:", 1) + "/ws" }

	given, err := client.TokenSource{URL: f.WebSocket(), Token: "given", Sign: sign}.Of(7)(t.Context())
	require.NoError(t, err)
	require.Equal(t, "given", given)
	asked, err := client.TokenSource{URL: f.WebSocket()}.Of(7)(t.Context())
	require.NoError(t, err)
	require.Equal(t, "7", asked)
	made, err := client.TokenSource{URL: f.WebSocket(), Sign: sign}.Of(7)(t.Context())
	require.NoError(t, err)
	require.Equal(t, "made for 7", made)
	_, err = client.TokenSource{URL: ws(production.URL)}.Of(7)(t.Context())
	require.ErrorContains(t, err, "millrace token --user=7")
	_, err = client.TokenSource{URL: ws(broken.URL)}.Of(7)(t.Context())
	require.ErrorContains(t, err, "out of \uFFFDorder")
}

func TestClientRefusesOptionsThatMakeNoSense(t *testing.T) {
	f := clienttest.New(t)
	for says, args := range map[string][]string{
		"who are you?":             {"--target=1002"},
		"--send needs --target":    {"--user=1001", "--send=x"},
		"the message is empty":     {"--user=1001", "--target=1002", "--send="},
		"not valid UTF-8":          {"--user=1001", "--target=1002", "--send=caf\xe9"},
		"[cursor-file send]":       {"--user=1001", "--target=1002", "--send=x", "--cursor-file=x"},
		"cannot be made":           {"--user=1001", "--target=1002", "--cursor-file=/nosuch/x"},
		"--url=":                   {"--user=1001", "--url=http://127.0.0.1/ws"},
		"--target=-1":              {"--user=1001", "--target=-1"},
		"none of the others can":   {"--user=1001", "--target=1002", "--group=77"},
		"the token is of user 100": {"--user=1001", "--target=1002", "--token=100"},
	} {
		require.ErrorContains(t, opened(t, f, args...).ends(), says)
	}
}
