package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/auth"
	"millrace/services/millrace/proof"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTokenIsSignedWithTheSecretThatIsSet(t *testing.T) {
	t.Setenv("MILLRACE_JWT_SECRET", proof.Secret)
	out, err := run(t, "token", "--user=1001", "--region=eu")
	require.NoError(t, err)
	id, err := auth.NewSecretVerifier(proof.Secret).Verify(t.Context(), strings.TrimSpace(out))
	require.NoError(t, err)
	require.EqualValues(t, 1001, id.User)
	require.Equal(t, "eu", id.Region)
}

func TestTokenIsSignedWithTheSecretThatDevDrew(t *testing.T) {
	dir := t.TempDir()
	drawn, err := devSecret(dir)
	require.NoError(t, err)
	again, err := devSecret(dir)
	require.NoError(t, err)
	require.Equal(t, drawn, again, "tokens outlive a restart")

	out, err := run(t, "token", "--user=7", "--data-dir="+dir)
	require.NoError(t, err)
	_, err = auth.NewSecretVerifier(drawn).Verify(t.Context(), strings.TrimSpace(out))
	require.NoError(t, err)
}

func TestTokenSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"required flag":          {"token", "--jwt-secret=" + proof.Secret},
		"a user id is from 1 to": {"token", "--user=0", "--jwt-secret=" + proof.Secret},
		"expired already":        {"token", "--user=1", "--ttl=-1s", "--jwt-secret=" + proof.Secret},
		"MILLRACE_JWT_SECRET":    {"token", "--user=1", "--data-dir=" + t.TempDir()},
		"wants at least 32":      {"token", "--user=1", "--jwt-secret=short"},
	} {
		_, err := run(t, args...)
		require.ErrorContains(t, err, want)
	}
}

func TestDevTokenIsGivenToAnybodyForAnyUser(t *testing.T) {
	for body, code := range map[string]int{
		`{"user":1001}`: http.StatusOK, `{"user":0}`: http.StatusBadRequest, `[]`: http.StatusBadRequest,
		`{"user":1001,"x":"` + strings.Repeat("x", maxDevTokenRequest) + `"}`: http.StatusBadRequest,
	} {
		recorder := httptest.NewRecorder()
		serveDevToken(proof.Secret, nil)(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/dev/token", strings.NewReader(body)))
		require.Equal(t, code, recorder.Code, body)
	}
}

// A browser hands the response to a page of another origin only if it names that origin.
func TestDevTokenIsReadByPagesThatMayConnect(t *testing.T) {
	for origin, want := range map[string]string{
		"http://localhost:3000": "http://localhost:3000", "http://LOCALHOST:3000": "http://LOCALHOST:3000",
		"http://localhost:3001": "", "null": "", "": "",
	} {
		recorder := httptest.NewRecorder()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/dev/token", strings.NewReader(`{"user":1001}`))
		request.Header.Set("Origin", origin)
		serveDevToken(proof.Secret, []string{"http://localhost:3000"})(recorder, request)
		require.Equal(t, want, recorder.Header().Get("Access-Control-Allow-Origin"), origin)
		require.Equal(t, "Origin", recorder.Header().Get("Vary"))
	}
}

func TestSecretThatIsTooShortIsRefusedByAllWhoReadIt(t *testing.T) {
	for _, kept := range []string{"", "abc", proof.Secret[:31]} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(secretFile(dir), []byte(kept), 0o600))
		_, err := devSecret(dir)
		require.ErrorContains(t, err, "remove it, and dev draws another")
		_, err = run(t, "token", "--user=1001", "--data-dir="+dir)
		require.ErrorContains(t, err, "less than the 32")
		_, err = run(t, "dev", "--data-dir="+dir)
		require.ErrorContains(t, err, "less than the 32")
	}
}

func TestSecretIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(secretFile(dir), 0o700)) // so that nothing can be put in its place
	require.Error(t, writeWhole(secretFile(dir), []byte(proof.Secret)))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing half-written stays behind")

	path := filepath.Join(dir, "secret")
	require.NoError(t, writeWhole(path, []byte(proof.Secret)))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}
