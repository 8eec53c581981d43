package pubsubtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

func groupBeginsWhereTold(t *testing.T, f Factory) {
	key := f.keyIn(1)
	messages := series(key, 6)
	f.publish(t, messages[:3]...)
	since := afterMillisecond()
	f.publish(t, messages[3:]...)
	groups := f.Bus.Groups()
	offset := events.Offset(f.read(t)[1].Seq)
	for group, test := range map[string]struct {
		at   pubsub.Start
		want int // of the six messages, the first one that the group gets
	}{
		"begins-oldest": {pubsub.Start{}, 0},
		"begins-time":   {pubsub.Start{Time: since}, 3},
		"begins-offset": {pubsub.Start{Offsets: map[int32]int64{1: offset}}, 1},
		"begins-later":  {pubsub.Start{Time: since.Add(time.Hour)}, 6},
	} {
		begun, err := groups.Begin(t.Context(), group, f.Topic, test.at)
		require.NoError(t, err, group)
		require.True(t, begun)
		r := f.join(t, group, pubsub.SubscriberConfig{})
		if test.want == 6 {
			f.publish(t, keyed(key, 6))
			require.Equal(t, []string{key + "/6"}, payloads(r.take(1)), group)
		} else {
			require.Equal(t, payloads(messages[test.want:]), payloads(r.take(6-test.want)), group)
		}
		r.close()
		begun, err = groups.Begin(t.Context(), group, f.Topic, pubsub.Start{})
		require.NoError(t, err)
		require.False(t, begun, "it has begun already")
	}
	for _, beyond := range []map[int32]int64{{1: offset + 1000}, {9999: 0}} {
		_, err := groups.Begin(t.Context(), "begins-nowhere", f.Topic, pubsub.Start{Offsets: beyond})
		require.Error(t, err)
	}
}

func groupIsDeleted(t *testing.T, f Factory) {
	f.publish(t, series("key", 3)...)
	groups := f.Bus.Groups()
	wanted := func(group string) bool { return group == "deleted" }
	r, other := f.join(t, "deleted", pubsub.SubscriberConfig{}), f.join(t, "not-wanted", pubsub.SubscriberConfig{})
	r.take(2)
	other.take(1)
	members, err := groups.List(t.Context(), wanted)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"deleted": 1}, members)
	require.ErrorIs(t, groups.Delete(t.Context(), "deleted"), pubsub.ErrInUse)
	r.close()
	members, err = groups.List(t.Context(), wanted)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"deleted": 0}, members)
	require.NoError(t, groups.Delete(t.Context(), "deleted"))
	require.NoError(t, groups.Delete(t.Context(), "deleted"), "it is gone already")
	members, err = groups.List(t.Context(), wanted)
	require.NoError(t, err)
	require.Empty(t, members)
	for _, seq := range f.committed(t, "deleted") {
		require.Zero(t, seq)
	}
}

// afterMillisecond returns the next time in whole milliseconds, which is how a log knows times, once that has come.
func afterMillisecond() time.Time {
	next := time.Now().Truncate(time.Millisecond).Add(time.Millisecond)
	<-time.After(time.Until(next))
	return next
}
