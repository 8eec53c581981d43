package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndHangupReopensTheAuditLogAndEndsNothing(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a := proof.Join(t, d.url(), proof.Alice, nil)
	a.Sends(t, client.ToUser(proof.Bob), "one")
	path := filepath.Join(dir, "audit.log")
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool {
		_, err := os.Stat(path)
		return err == nil
	}, proof.Patience, 10*time.Millisecond, "nobody sends anything, so nothing else makes the file")
	a.Sends(t, client.ToUser(proof.Bob), "two")
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(path)
		return err == nil && len(log) > 0
	}, proof.Patience, 10*time.Millisecond)
}
