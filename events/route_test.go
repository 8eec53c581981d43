package events

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// set is the headers of a record.
type set map[string]string

func (s set) Get(name string) string { return s[name] }

func TestRoutesHaveNamesThatTopicsCanHave(t *testing.T) {
	for _, route := range []string{"vip", "eu-1", "7", "a_b", strings.Repeat("x", 64)} {
		require.NoError(t, CheckRoute(route), route)
		require.True(t, IsRoute(RouteTopic(route)), route)
	}
	for _, route := range []string{"", "VIP", "a.b", "a b", "-a", "ü", strings.Repeat("x", 65), "poison", "vip.poison"} {
		require.Error(t, CheckRoute(route), route)
		require.False(t, IsRoute(RouteTopic(route)), route)
	}
	for _, topic := range Topics() {
		require.False(t, IsRoute(topic), topic)
	}
}

func TestCopyIsDecodedAsItsOriginal(t *testing.T) {
	const foreign = `{"type":"new_message","message":{"from":1,"to":2,"content":"hi","message_type":1,"timestamp":5},"timestamp":5}`
	original := Position{Partition: 3, Seq: 900}
	want, err := Decode(TopicMessages, original, []byte(foreign))
	require.NoError(t, err)

	topic, at, err := Original(RouteTopic("vip"), Position{Partition: 3, Seq: 7}, set{OriginHeader: original.String()})
	require.NoError(t, err)
	got, err := Decode(topic, at, []byte(foreign))
	require.NoError(t, err)
	require.Equal(t, want, got, "also the ids that a foreign producer has left out")

	recall := `{"type":"message_recalled","conversation":"u:1:2","message_id":"m","seq":899,"by":1,"timestamp":1}`
	_, err = Decode(topic, at, []byte(recall))
	require.NoError(t, err, "the place of the copy says nothing about what came before")
}

func TestRecordThatIsNoCopyIsItsOwnOriginal(t *testing.T) {
	at := Position{Partition: 3, Seq: 7}
	for topic, headers := range map[string]set{
		RouteTopic("vip"): {}, TopicMessages: {OriginHeader: "3:900"}, PoisonTopic(TopicMessages): {OriginHeader: "3:900"},
	} {
		original, pos, err := Original(topic, at, headers)
		require.NoError(t, err)
		require.Equal(t, topic, original)
		require.Equal(t, at, pos)
	}
}

func TestOriginThatCannotBeIsInvalid(t *testing.T) {
	for _, origin := range []string{"x", "3", "3:x", "4:900", "3:0", "-1:5", "3:-5"} {
		_, _, err := Original(RouteTopic("vip"), Position{Partition: 3, Seq: 7}, set{OriginHeader: origin})
		require.ErrorContains(t, err, OriginHeader, origin)
		require.True(t, IsPermanent(err))
	}
}

func TestDecisionsTravelInHeaders(t *testing.T) {
	var d Decisions
	d.Add(Decisions{Tags: []string{"a"}, Routes: []string{"vip"}, Recall: "first"})
	d.Add(Decisions{Tags: []string{"a", "b"}, Routes: []string{"eu", "vip"}, Notify: []string{"x"}, Recall: "second"})
	headers := set{}
	d.SetHeaders(func(name, value string) { headers[name] = value })
	require.Equal(t, set{TagsHeader: "a,b", RoutesHeader: "vip,eu", NotifyHeader: "x", RecallHeader: "first"}, headers)
	require.Equal(t, []string{"vip", "eu"}, SplitNames(headers[RoutesHeader]))
	require.Nil(t, SplitNames(headers["none"]))
	new(Decisions).SetHeaders(func(name, _ string) { t.Errorf("header %s of no decision", name) })
}

func FuzzOriginal(f *testing.F) {
	f.Add("message-events.vip", "3:900")
	f.Add("message-events.poison", "3:900")
	f.Fuzz(func(t *testing.T, topic, origin string) {
		at := Position{Partition: 3, Seq: 7}
		original, pos, err := Original(topic, at, set{OriginHeader: origin})
		if err != nil {
			require.True(t, IsPermanent(err))
			return
		}
		require.Equal(t, at.Partition, pos.Partition)
		require.Positive(t, pos.Seq)
		require.Contains(t, []string{topic, TopicMessages}, original)
	})
}
