package main

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/store"
	"millrace/services/client"
	"millrace/services/message"
	"millrace/services/millrace/proof"
)

// panickyStore panics when it is asked for the history of the conversation.
type panickyStore struct {
	message.Store
	conversation string
}

func (s panickyStore) History(ctx context.Context, conversation string, p store.Page) ([]store.StoredMessage, bool, error) {
	if conversation == s.conversation {
		panic("at the disco")
	}
	return s.Store.History(ctx, conversation, p)
}

func TestEndToEndPanicOfACallIsItsOwnError(t *testing.T) {
	besideOthers(t)
	var metrics *prometheus.Registry
	d := startDevWith(t, t.TempDir(), fx.Populate(&metrics), fx.Decorate(func(s message.Store) message.Store {
		return panickyStore{s, "u:1001:1003"}
	}))
	a := proof.Join(t, d.url(), proof.Alice, nil)
	sent := a.Sends(t, client.ToUser(proof.Bob), "on")
	_, err := a.History(t.Context(), client.History{Conversation: "u:1001:1003"})
	require.ErrorIs(t, err, &client.Error{Code: client.Internal})
	require.Equal(t, []string{"on"}, contents(eventually(t, a, sent.Conversation, 1)), "the node and the session go on")
	families, err := metrics.Gather()
	require.NoError(t, err)
	counted := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "millrace_panics_total" {
			for _, m := range f.GetMetric() {
				counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	require.InDelta(t, 1, counted["call"], 0)
	require.Zero(t, counted["session"])
}

// Where work may be half done, the process stops in order.
func TestPartThatPanicsStopsTheProcess(t *testing.T) {
	err := orPanic(t.Context(), func(context.Context) error { panic("at the disco") })
	require.ErrorContains(t, err, "panic: at the disco")
	require.ErrorContains(t, err, "TestPartThatPanicsStopsTheProcess", "with the stack")
}
