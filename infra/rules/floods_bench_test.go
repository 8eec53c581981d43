package rules

import (
	"fmt"
	"testing"

	"millrace/events"
)

// BenchmarkObserve counts a message in a busy partition by two flood rules.
func BenchmarkObserve(b *testing.B) {
	t := newTrack(parse(b, floodRules))
	m := &events.Message{From: 1, To: 1000, Conversation: "u:1:1000", Content: "hello"}
	seq := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		m.From, m.MessageID, m.Timestamp = seq%100, fmt.Sprint(seq), seq/1000
		t.observe(&events.Record{Event: events.Event{Message: m}, Position: events.Position{Seq: seq}})
	}
}
