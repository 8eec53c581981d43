package chat

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/events"
	"millrace/services/client"
)

// printer writes whole lines, one at a time: messages to out, and what happens around them to status.
type printer struct {
	mu          sync.Mutex
	out, status io.Writer
	me          int64 // guarded by the view that prints messages
}

// message prints a message. elsewhere names its conversation if the user is in another one.
func (p *printer) message(m events.PushMessage, elsewhere string) {
	if elsewhere != "" {
		elsewhere = "[" + elsewhere + "] "
	}
	own := ""
	if m.From == p.me {
		own = " (you)"
	}
	at := time.Unix(m.Timestamp, 0).Format(time.TimeOnly)
	if m.Recalled {
		p.line(p.out, "%s* a message was recalled", elsewhere)
		return
	}
	references := ""
	if m.ReplyTo != "" {
		references = "[an answer] "
	}
	if slices.Contains(m.Mentions, p.me) {
		references += "[to you] "
	}
	p.line(p.out, "%s%s %d%s: %s%s%s", elsewhere, at, m.From, own, references, kindOf(m.MessageType), withExtra(m.Content, m.Extra))
}

// settingsOf puts changed settings into words.
func settingsOf(s events.Settings) string {
	var words []string
	either := func(is *bool, yes, no string) {
		switch {
		case is == nil:
		case *is:
			words = append(words, yes)
		default:
			words = append(words, no)
		}
	}
	either(s.Pinned, "pinned", "not pinned")
	either(s.Hidden, "hidden until the next message", "not hidden")
	switch {
	case s.MutedUntil == nil:
	case *s.MutedUntil > time.Now().Unix():
		words = append(words, "silent until "+time.Unix(*s.MutedUntil, 0).Format(time.DateTime))
	default:
		words = append(words, "not silent")
	}
	return strings.Join(words, ", ")
}

func withExtra(content string, extra events.Extra) string {
	if len(extra) == 0 {
		return content
	}
	return content + " " + string(extra)
}

// note prints a line that is not a message.
func (p *printer) note(format string, args ...any) { p.line(p.out, "* "+format, args...) }

// state prints how the client itself is doing.
func (p *printer) state(format string, args ...any) { p.line(p.status, "-- "+format, args...) }

func (p *printer) line(w io.Writer, format string, args ...any) {
	text := client.Sanitise(fmt.Sprintf(format, args...))
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(w, text) // nobody is left to tell when the terminal is gone
}

func kindOf(messageType int32) string {
	names := []string{2: "image", 3: "file", 4: "audio", 5: "video", 6: "location"}
	switch {
	case messageType <= 1:
		return ""
	case int(messageType) < len(names):
		return "[" + names[messageType] + "] "
	}
	return fmt.Sprintf("[type %d] ", messageType)
}
