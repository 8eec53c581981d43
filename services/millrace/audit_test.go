package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestAuditLogOfARunningSystemIsVerifiedAndTamperingShows(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a := proof.Join(t, d.url(), proof.Alice, nil)
	for _, text := range []string{"one", "two", "three"} {
		a.Sends(t, client.ToUser(proof.Bob), text)
	}
	var said string
	require.Eventually(t, func() (done bool) {
		var err error
		said, err = run(t, "audit", "verify", "--data-dir="+dir)
		require.NoError(t, err)
		return strings.Contains(said, "last number 3,")
	}, proof.Patience, 10*time.Millisecond)
	require.Contains(t, said, "3 lines in 1 file, as they were written")
	hash := regexp.MustCompile(`[0-9a-f]{64}`).FindString(said)
	_, err := run(t, "audit", "verify", "--data-dir="+dir, "--hash="+hash)
	require.NoError(t, err)
	_, err = run(t, "audit", "verify", "--data-dir="+dir, "--hash="+strings.ToUpper(hash))
	require.ErrorContains(t, err, "the log was cut off before it, or written anew")

	data, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	require.NoError(t, err)
	forged := filepath.Join(dir, "forged.log")
	require.NoError(t, os.WriteFile(forged, []byte(strings.Replace(string(data), `"who":1001`, `"who":1002`, 2)), 0o600))
	_, err = run(t, "audit", "verify", forged)
	require.EqualError(t, err, forged+": line 1: its hash is wrong: it was changed, or what comes before it")
	_, err = run(t, "audit", "verify", filepath.Join(dir, "none.log"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestEndToEndWhatAnAdminDoesIsInTheLogOfOperations(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	d.asks(t, 200, "POST", "/v1/users/1001/tokens:revoke", `{}`, nil)
	d.asks(t, 400, "POST", "/v1/users/0:disconnect", `{"device":"web-1"}`, nil)
	log := filepath.Join(dir, "operations.log")
	proof.Await(t, func() bool {
		said, err := run(t, "audit", "verify", log)
		return err == nil && strings.Contains(said, "2 lines in 1 file, as they were written")
	}, "both are written")
	data, err := os.ReadFile(log)
	require.NoError(t, err)
	for _, want := range []string{
		`"key":"dev","method":"/millrace.api.v1.OperatorService/RevokeTokens","target":{"user":"1001"}`,
		`"key":"dev","method":"/millrace.api.v1.OperatorService/DisconnectUser","target":{"device":"web-1"}`,
	} {
		require.Contains(t, string(data), want)
	}
}
