package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/handlers/storage"
	"millrace/infra/router"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndStuckMessageHoldsUpNobodyAndIsStoredInItsPlaceOnceItCanBe(t *testing.T) {
	besideOthers(t)
	var store ill
	store.set(0, trap, false)
	d := startDevWith(t, t.TempDir(), fx.Decorate(
		func(w storage.Store) storage.Store { return &illStore{w, &store} },
		func(o router.Options) router.Options {
			o.StuckAfter, o.RetryPause = 100*time.Millisecond, time.Millisecond
			return o
		},
	))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "one")
	stuck := a.Sends(t, client.ToUser(proof.Bob), trap)
	a.Sends(t, client.ToUser(proof.Bob), "two")
	require.Equal(t, []string{"one", trap, "two"}, b.Reads(t, 3), "storage's trouble is not push's")
	brokers := "--kafka-brokers=" + strings.Join(d.brokers, ",")
	// It is parked because others are stored, here in another partition.
	apart := proof.Apart(t, d.brokers)
	require.Eventually(t, func() bool {
		a.Sends(t, client.ToUser(apart), "elsewhere")
		return len(listPoison(t, d.brokers, "--replayed")) >= 2
	}, proof.Patience, 50*time.Millisecond, "parked, tried again and parked anew")
	require.Equal(t, []string{"one", "two"}, contents(eventually(t, b, stuck.Conversation, 2)))
	for _, e := range listPoison(t, d.brokers, "--replayed") {
		require.Equal(t, "storage", e.Handler)
		require.Equal(t, "stuck: "+errDown.Error(), e.Reason)
		require.Equal(t, stuck.Conversation, e.Key)
	}
	shown, err := run(t, "poison", "show", listPoison(t, d.brokers, "--replayed")[0].ID, brokers)
	require.NoError(t, err)
	require.Contains(t, shown, `poison_reason: "stuck: the store is down"`)

	store.set(0, "", false)
	require.Equal(t, []string{"one", trap, "two"}, contents(eventually(t, b, stuck.Conversation, 3)))
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers)) == 0 }, proof.Patience, 10*time.Millisecond)
	a.Sends(t, client.ToUser(proof.Bob), "three")
	require.Equal(t, []string{"three"}, b.Reads(t, 1), "what was tried again is not shown again")
}
