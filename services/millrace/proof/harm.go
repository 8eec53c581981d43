package proof

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// DoHarm enables the tests that do one kind of harm each and take more than some seconds; task test:harm sets it. The oracle
// or a count decides such a test; times are only reported.
var DoHarm = flag.Bool("harm", false, "run the tests that do harm for longer")

// NeedsHarm skips the test unless the flag -harm is set.
func NeedsHarm(t *testing.T) {
	t.Helper()
	if !*DoHarm {
		t.Skip("takes longer: task test:harm runs it")
	}
}

// EventuallyTrue waits until the condition holds, and logs how long that took.
func EventuallyTrue(t *testing.T, what string, holds func() bool) {
	t.Helper()
	begin := time.Now()
	require.Eventually(t, holds, Healing, 10*time.Millisecond, what)
	t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
}

// Wait returns after the duration or when the context ends.
func Wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
