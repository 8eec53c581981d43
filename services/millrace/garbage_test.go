package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGarbageIsBoundedByWhatLives(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	percent := func() int {
		runtime.GC()
		now := debug.SetGCPercent(100)
		debug.SetGCPercent(now)
		return now
	}
	stop := boundGarbage()
	defer stop()
	large := make([]byte, 8*leastGarbage)
	require.Eventually(t, func() bool { return percent() == leastPercent }, 30*time.Second, 10*time.Millisecond)
	runtime.KeepAlive(large) // and no longer
	require.Eventually(t, func() bool { return percent() > 2*leastPercent }, 30*time.Second, 10*time.Millisecond)
}
