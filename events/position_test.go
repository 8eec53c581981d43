package events

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPositionsOfALaterEpochLieBehindAllOfAnEarlierOne(t *testing.T) {
	require.EqualValues(t, 1, Seq(0, 0))
	require.Less(t, Seq(0, 1<<40-2), Seq(1, 0))
	require.LessOrEqual(t, Seq(8191, 1<<40-2), int64(MaxID))
	for _, epoch := range []int64{0, 1, 7} {
		require.EqualValues(t, 41, Offset(Seq(epoch, 41)))
		require.Equal(t, epoch, EpochOf(Seq(epoch, 41)))
		require.EqualValues(t, -1, Offset(Seq(epoch, -1)))
	}
}

func TestPositionReadsWhatItWrote(t *testing.T) {
	p := Position{Partition: 12, Seq: 349}
	require.Equal(t, "12:349", p.String())
	got, err := ParsePosition(p.String())
	require.NoError(t, err)
	require.Equal(t, p, got)
	for _, bad := range []string{"", "12", ":", "-1:3", "1:-3", "1:9007199254740992", "99999999999:1", "a:b"} {
		_, err := ParsePosition(bad)
		require.Error(t, err, bad)
	}
}

func TestConversationHasOneCanonicalName(t *testing.T) {
	require.Equal(t, Direct(2, 10), Direct(10, 2))
	c, err := ParseConversation("u:2:10")
	require.NoError(t, err)
	require.True(t, c.Has(2) && c.Has(10) && !c.Has(3))
	for _, bad := range []string{"", "u", "u:1", "u:10:2", "u:0:2", "u:01:2", "u:1:2:3", "g:", "g:0", "g:-1", "g:07", "x:1", "g:9007199254740992"} {
		_, err := ParseConversation(bad)
		require.Error(t, err, bad)
	}
}

func TestChannelsAreThoseOfBothUsersOrOfTheGroup(t *testing.T) {
	for name, want := range map[string][]string{"u:1:2": {"u:1", "u:2"}, "u:3:3": {"u:3"}, "g:77": {"g:77"}} {
		c, err := ParseConversation(name)
		require.NoError(t, err)
		require.Equal(t, want, c.Channels())
	}
}

// The expected values are those that Kafka's own test (UtilsTest) states for org.apache.kafka.common.utils.Utils.murmur2.
func TestPartitionEqualsThatOfKafkasOwnHash(t *testing.T) {
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536} {
		require.Equal(t, (hash&0x7fffffff)%64, Partition(key, 64), key)
	}
}

func TestIDsDependOnEveryPart(t *testing.T) {
	id := MessageID(1, "u:1:2", "c")
	require.Len(t, id, 22)
	require.Equal(t, id, MessageID(1, "u:1:2", "c"))
	for _, other := range []string{MessageID(2, "u:1:2", "c"), MessageID(1, "u:1:3", "c"), MessageID(1, "u:1:2", "d"), MessageID(1, "u:1:", "2c")} {
		require.NotEqual(t, id, other)
	}
}

func TestMembershipChangesReachWhoJoinsAndLeaves(t *testing.T) {
	s := samples()
	for name, want := range map[string][]string{
		"group_created":      {"g:77", "u:1001", "u:1002"},
		"member_joined":      {"g:77", "u:1002"},
		"member_left":        {"g:77", "u:1002"},
		"group_dissolved":    {"g:77"},
		"message_read":       {"u:1001", "u:1002"},
		"message_read_group": {"u:1002"},
	} {
		d, err := DeliveryOf(&Record{Event: s[name], Position: Position{Seq: 1}})
		require.NoError(t, err)
		require.Equal(t, want, d.Channels, name)
	}
}
