package kafka

import (
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/pubsub"
)

func TestRecordHasTheKeyAndAllHeadersHoweverLong(t *testing.T) {
	msg := message.NewMessage("an-id", []byte("x"))
	msg.Metadata.Set(pubsub.KeyHeader, "u:1:2")
	want := map[string]string{kafka.UUIDHeaderKey: "an-id"}
	for _, name := range []string{"a", "b", "c", "empty"} {
		want[name] = strings.Repeat(name, 3*headerBytes/len(name))
		if name == "empty" {
			want[name] = ""
		}
		msg.Metadata.Set(name, want[name])
	}
	var r kgo.Record
	require.NoError(t, (&publisher{}).fill(&r, &topic{name: "t", leaders: make([]int32, 64)}, msg))
	got := map[string]string{}
	for _, h := range r.Headers {
		got[h.Key] = string(h.Value)
	}
	require.Equal(t, want, got)
	require.Equal(t, "u:1:2", string(r.Key))
	require.Equal(t, events.Partition("u:1:2", 64), r.Partition)
	require.Equal(t, "t", r.Topic)
	require.Equal(t, "x", string(r.Value))

	msg.Metadata.Set(kafka.UUIDHeaderKey, "another")
	require.ErrorContains(t, (&publisher{}).fill(&r, &topic{name: "t", leaders: make([]int32, 64)}, msg), "reserved")
}
