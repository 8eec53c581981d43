package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// A foreign record is held against the rules. Each one that breaks a rule is in the poison queue with that rule, and nobody
// who is connected has seen anything of it.
func TestEndToEndForeignRecordThatBreaksARuleIsPoisonedAndNotShown(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "one")
	a.Sends(t, client.ToUser(proof.Bob), "two")
	b.Sees(t, "new_message")
	message := b.Sees(t, "new_message")
	group, err := a.Group(t.Context(), client.GroupCreate{Name: "g", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	b.Sees(t, "group_created")

	room := events.Group(group.GroupID)
	change := func(kind string, by, seq int64, rest string) string {
		return fmt.Sprintf(`{"type":%q,"conversation":%q,"message_id":%q,"seq":%d,"by":%d,"timestamp":1%s}`,
			kind, message.Conversation, message.Message.MessageID, seq, by, rest)
	}
	said := func(rest string) string {
		return fmt.Sprintf(`{"type":"new_message","timestamp":1,"message":{"from":%d,"timestamp":1,%s}}`, proof.Carol, rest)
	}
	const text = `"content":"forged","message_type":1`
	direct := events.Direct(proof.Bob, proof.Carol)
	records := []struct{ key, value, reason string }{
		{message.Conversation, change("message_edited", proof.Bob, message.Seq, `,"content":"forged"`), "not the author"},
		{message.Conversation, change("message_edited", proof.Alice, message.Seq-1, `,"content":"forged"`), "but the message has"},
		{message.Conversation, change("message_recalled", proof.Bob, message.Seq, ""), "not the author"},
		{room, said(text + fmt.Sprintf(`,"group_id":%d`, group.GroupID)), "is no member of group"},
		{events.Group(77), said(text + `,"group_id":77`), "unknown group 77"},
		{direct, said(text + fmt.Sprintf(`,"to":%d,"recalled":true`, proof.Bob)), "recalled in a new message"},
		{direct, said(fmt.Sprintf(`"to":%d,"content":"","message_type":1`, proof.Bob)), "no content"},
		{direct, said(fmt.Sprintf(`"to":%d,"content":"forged","message_type":7`, proof.Bob)), "message_type 7"},
		{room, fmt.Sprintf(`{"type":"member_joined","conversation":%q,"group_id":%d,"user":%d,"by":%[3]d,"timestamp":1}`,
			room, group.GroupID, proof.Carol), "is closed to user"},
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...))
	require.NoError(t, err)
	defer producer.Close()
	for _, r := range records {
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{
			Topic: events.TopicMessages, Key: []byte(r.key), Value: []byte(r.value),
		}).FirstErr())
	}
	require.Eventually(t, func() bool { return len(listPoison(t, d.brokers, "--handler=storage")) == len(records) }, proof.Patience, 10*time.Millisecond)
	poisoned := listPoison(t, d.brokers, "--handler=storage")
	for _, r := range records {
		require.Condition(t, func() bool {
			for _, p := range poisoned {
				if p.Key == r.key && strings.Contains(p.Reason, r.reason) {
					return true
				}
			}
			return false
		}, "%s in %+v", r.reason, poisoned)
	}
	// Each partition goes on: its next push is that of the next message.
	for _, said := range []client.Target{client.ToUser(proof.Bob), client.ToGroup(group.GroupID)} {
		a.Sends(t, said, "after")
		require.Equal(t, "after", b.Sees(t, "new_message").Message.Content)
	}
}
