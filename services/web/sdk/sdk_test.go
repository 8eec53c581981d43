package sdk_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/web/sdk"
)

func ask(t *testing.T, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	request.Header = header
	recorder := httptest.NewRecorder()
	sdk.Handler().ServeHTTP(recorder, request)
	return recorder
}

func TestPagesOfAnyOriginGetTheSDKAndAskWhetherItIsCurrent(t *testing.T) {
	for _, name := range []string{"millrace.js", "millrace.global.js"} {
		got := ask(t, "/sdk/"+name, nil)
		require.Equal(t, http.StatusOK, got.Code)
		want, err := os.ReadFile("dist/" + name)
		require.NoError(t, err)
		require.Equal(t, string(want), got.Body.String())
		require.Equal(t, "text/javascript; charset=utf-8", got.Header().Get("Content-Type"))
		require.Equal(t, "no-cache", got.Header().Get("Cache-Control"))
		require.Equal(t, "*", got.Header().Get("Access-Control-Allow-Origin"))

		again := ask(t, "/sdk/"+name, http.Header{"If-None-Match": {got.Header().Get("ETag")}})
		require.Equal(t, http.StatusNotModified, again.Code)
		require.Empty(t, again.Body.String())
		require.Equal(t, http.StatusOK, ask(t, "/sdk/"+name, http.Header{"If-None-Match": {`"another"`}}).Code)
	}
	require.NotEqual(t, ask(t, "/sdk/millrace.js", nil).Header().Get("ETag"), ask(t, "/sdk/millrace.global.js", nil).Header().Get("ETag"))
}

func TestNothingElseIsServed(t *testing.T) {
	for _, path := range []string{"/sdk/", "/sdk/sdk.go", "/sdk/dist/millrace.js", "/sdk/types/index.d.ts"} {
		require.Equal(t, http.StatusNotFound, ask(t, path, nil).Code, path)
	}
}
