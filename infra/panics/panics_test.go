package panics_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/infra/panics"
)

func TestPanicIsCountedAndLoggedWithItsStack(t *testing.T) {
	var text bytes.Buffer
	reg := prometheus.NewRegistry()
	p := panics.New(reg, slog.New(slog.NewTextHandler(&text, nil)))
	require.NoError(t, p.Do(panics.Session, func() {}))
	var mu sync.Mutex
	err := p.Do(panics.Session, func() {
		mu.Lock()
		defer mu.Unlock()
		panic("at the disco")
	})
	require.ErrorIs(t, err, panics.ErrPanic)
	require.ErrorContains(t, err, "at the disco")
	require.True(t, mu.TryLock(), "a lock held across the panic is free")
	require.Contains(t, text.String(), "TestPanicIsCountedAndLoggedWithItsStack", "the stack")
	require.NoError(t, testutil.GatherAndCompare(reg, bytes.NewBufferString(`
# HELP millrace_panics_total Panics that were contained, by what they ended or interrupted. Each is a bug.
# TYPE millrace_panics_total counter
millrace_panics_total{where="attach"} 0
millrace_panics_total{where="background"} 0
millrace_panics_total{where="call"} 0
millrace_panics_total{where="gap"} 0
millrace_panics_total{where="push"} 0
millrace_panics_total{where="session"} 1
millrace_panics_total{where="uplink"} 0
`)))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestLoopThatPanicsStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := panics.New(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		runs := 0
		ended := errors.New("ended")
		require.Equal(t, ended, p.Kept(func(context.Context) error {
			if runs++; runs < 3 {
				panic("at the disco")
			}
			return ended
		})(t.Context()))
		require.Equal(t, 3, runs)

		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, p.Kept(func(context.Context) error {
			cancel()
			panic("while it stops")
		})(ctx))
	})
}

func TestNilPanicsContainToo(t *testing.T) {
	var none *panics.Panics
	require.ErrorIs(t, none.Do(panics.Call, func() { panic(errors.New("at the disco")) }), panics.ErrPanic)
}
