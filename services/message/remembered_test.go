package message

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLatestMessagesAreRememberedAndOlderOnesForgotten(t *testing.T) {
	const size = 10
	r := newRemembered(size)
	for i := range 100 {
		r.add(strconv.Itoa(i), original{sentAt: int64(i)})
		for back := range min(size, i+1) {
			o, known := r.get(strconv.Itoa(i - back))
			require.True(t, known)
			require.EqualValues(t, i-back, o.sentAt)
		}
		_, known := r.get(strconv.Itoa(i - 2*size))
		require.False(t, known)
		require.LessOrEqual(t, len(r.recent)+len(r.before), 2*size)
	}
}

func TestAMessageThatIsRememberedIsNotAddedAsNew(t *testing.T) {
	r := newRemembered(1)
	_, known := r.addNew("a", original{sentAt: 1})
	require.False(t, known)
	r.add("b", original{}) // now a is among those before
	first, known := r.addNew("a", original{sentAt: 2})
	require.True(t, known)
	require.EqualValues(t, 1, first.sentAt)
	r.add("a", original{sentAt: 3})
	first, _ = r.get("a")
	require.EqualValues(t, 3, first.sentAt)
}

// BenchmarkRemember measures what a message costs that is new.
func BenchmarkRemember(b *testing.B) {
	ids := make([]string, 8*knownOriginals)
	for i := range ids {
		ids[i] = strconv.Itoa(1e15 + i*7919)
	}
	r := newRemembered(knownOriginals)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := ids[i%len(ids)]
		r.get(id)
		r.addNew(id, original{})
	}
}
