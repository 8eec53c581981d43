package events

import (
	"strings"
	"testing"
)

func BenchmarkNewMessage(b *testing.B) {
	e := samples()["new_message"]
	e.Message.Content = strings.Repeat("x", 100)
	r := &Record{Event: e, Position: Position{Partition: 1, Seq: 1 << 20}}
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"Encode", func() error { _, err := Encode(&e); return err }},
		{"DeliveryOf", func() error { _, err := DeliveryOf(r); return err }},
		{"MessageID", func() error { MessageID(alice, e.Message.Conversation, e.Message.ClientMsgID); return nil }},
		{"OwnID", func() error { r.OwnID(TopicMessages); return nil }},
		{"Direct", func() error { Direct(bob, alice); return nil }},
		{"Partition", func() error { Partition(Direct(bob, alice), 64); return nil }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
