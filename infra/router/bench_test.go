package router

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// benchBus knows the position of its only message.
type benchBus struct {
	pubsub.Bus
	at events.Position
}

func (b *benchBus) Position(*message.Message) (events.Position, error) { return b.at, nil }

func (b *benchBus) Records(msg *message.Message) []*message.Message { return []*message.Message{msg} }

// BenchmarkStages measures what a 100-byte message costs on its way through the stages, with decoding and without Watermill's
// goroutine.
func BenchmarkStages(b *testing.B) {
	bus := &benchBus{at: events.Position{Partition: events.Partition("u:1:2", 64)}}
	opts := Options{Observe: func(o Observation) {
		if o.Outcome != Handled {
			b.Fatal(o)
		}
	}}.withDefaults()
	c := newConsumer(bus, events.Handler{
		Name: "bench", Topic: events.TopicMessages, Handle: func(context.Context, events.Record) error { return nil },
	}, newDecoder(), opts, slog.New(slog.DiscardHandler))
	c.partitions = 64
	consume := message.HandlerFunc(func(msg *message.Message) ([]*message.Message, error) { return nil, c.handle(msg) })
	for _, stage := range slices.Backward(c.stages) { // as Watermill does
		consume = stage(consume)
	}
	content := strings.Repeat("x", 100)
	b.ReportAllocs()
	for b.Loop() {
		bus.at.Seq++
		msg := message.NewMessage("", []byte(`{"type":"new_message","message":{"message_id":"m`+strconv.FormatInt(bus.at.Seq, 10)+
			`","client_msg_id":"c","conversation":"u:1:2","from":1,"to":2,"content":"`+content+
			`","message_type":1,"timestamp":1642678800},"timestamp":1642678800}`))
		if _, err := consume(msg); err != nil {
			b.Fatal(err)
		}
	}
}
