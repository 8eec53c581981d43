package connect

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestFrameIsTooLargeOnceMoreThanTheLimitHasCome(t *testing.T) {
	const limit = 64
	escapes := func(n int) string { return strings.Repeat(`\u4e2d`, n) }
	for name, test := range map[string]struct {
		frame  string
		passes bool
	}{
		"empty":                       {"", true},
		"at the limit":                {strings.Repeat("x", limit), true},
		"above the limit":             {strings.Repeat("x", limit+1), false},
		"escapes at the limit":        {escapes(limit), true},
		"escapes above the limit":     {escapes(limit + 1), false},
		"both at the limit":           {escapes(limit/2) + strings.Repeat("x", limit/2), true},
		"both above the limit":        {escapes(limit/2) + strings.Repeat("x", limit/2+1), false},
		"a letter, then escapes":      {"x" + escapes(limit-1), true},
		"a letter, then one too many": {"x" + escapes(limit), false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, whole := range []bool{true, false} {
				var in io.Reader = strings.NewReader(test.frame)
				if !whole {
					in = iotest.OneByteReader(in)
				}
				if !test.passes { // the rest must not be waited for
					in = io.MultiReader(in, iotest.ErrReader(io.ErrNoProgress))
				}
				data, err := new(scratch).readLimited(in, limit)
				if !test.passes {
					require.ErrorIs(t, err, errTooLarge)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, test.frame, string(data))
			}
		})
	}
}
