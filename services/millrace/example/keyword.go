// Package example holds what one writes to extend Millrace: a handler (this file), a stage that every record runs through
// (slow.go) and a consumer in a process of its own (consumer.go). handlers/README.md explains them, and each is tested as it
// runs, in services/millrace/example_test.go.
package example

import (
	"context"
	"strings"

	"go.uber.org/fx"

	"millrace/events"
)

// Module registers the handler. It needs a [Keyword].
var Module = fx.Module("keyword", fx.Provide(fx.Annotate(New, fx.ResultTags(`group:"handlers"`))))

// Keyword is a word, and what to do about a message that contains it.
type Keyword struct {
	Word  string
	Found func(messageID string, from int64) error
}

// New returns a handler that looks for the word. After an error of Found the message comes again.
func New(k Keyword) events.Handler {
	return events.Handler{
		Name: "keyword", Topic: events.TopicMessages, Group: "keyword-consumer-group",
		Handle: func(_ context.Context, r events.Record) error {
			if r.Type == events.NewMessage && strings.Contains(r.Message.Content, k.Word) {
				return k.Found(r.Message.MessageID, r.Message.From)
			}
			return nil
		},
	}
}
