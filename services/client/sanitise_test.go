package client

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzSanitise(f *testing.F) {
	f.Add("a\x1b[2Jb")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range Sanitise(text) {
			require.True(t, r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f), "%q", r)
		}
	})
}
