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
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)
	a.sends(t, client.ToUser(bob), "one")
	stuck := a.sends(t, client.ToUser(bob), trap)
	a.sends(t, client.ToUser(bob), "two")
	require.Equal(t, []string{"one", trap, "two"}, b.reads(t, 3), "storage's trouble is not push's")
	brokers := "--kafka-brokers=" + strings.Join(d.brokers, ",")
	// It is parked since others are stored, here in another conversation.
	require.Eventually(t, func() bool {
		a.sends(t, client.ToUser(carol), "elsewhere")
		return len(listPoison(t, d.brokers, "--replayed")) >= 2
	}, patience, 50*time.Millisecond, "parked, tried again and parked anew")
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
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers)) == 0 }, patience, 10*time.Millisecond)
	a.sends(t, client.ToUser(bob), "three")
	require.Equal(t, []string{"three"}, b.reads(t, 1), "what was tried again is not shown again")
}
