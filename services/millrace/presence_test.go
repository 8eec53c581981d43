package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndPresenceIsAnsweredAndItsChangesArePushed(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := proof.Join(t, d.url(), proof.Alice, nil)
	require.Equal(t, []int64{proof.Alice}, a.Online(t, proof.Carol, proof.Bob, proof.Alice, proof.Alice))
	b := proof.Join(t, d.url(), proof.Bob, nil)
	require.EqualValues(t, proof.Bob, a.Sees(t, "user_online").User)
	require.Equal(t, []int64{proof.Alice, proof.Bob}, a.Online(t, proof.Bob, proof.Alice))
	require.NoError(t, b.Close())
	require.EqualValues(t, proof.Bob, a.Sees(t, "user_offline").User)
	require.Empty(t, a.Online(t, proof.Bob))
	require.Eventually(t, func() bool {
		present, err := a.Presence(t.Context(), proof.Bob, proof.Alice)
		require.NoError(t, err)
		return len(present.LastSeen) == 1 && time.Since(time.Unix(present.LastSeen[proof.Bob], 0)) < time.Minute
	}, proof.Patience, 100*time.Millisecond)

	_, err := a.Presence(t.Context(), 0)
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
	_, err = a.Presence(t.Context(), make([]int64, 201)...)
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
}
