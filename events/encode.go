package events

import (
	"strconv"
	"unicode/utf8"
)

// This file encodes new messages without reflection, because there are more of them than of everything else together. It writes
// what [marshal] would write.

// encodeNewMessage returns the JSON of a new_message as it stands on the topic, which has no event_id.
func encodeNewMessage(e *Event) ([]byte, error) {
	o := newObject(e.Message)
	o.string("type", string(NewMessage))
	o.message(e.Message)
	o.number("timestamp", e.Timestamp)
	return append(o.text, '}'), o.err
}

// newMessageFrame returns the complete text of a new message's push for a WebSocket.
func newMessageFrame(r *Record) ([]byte, error) {
	shown := *r.Message
	shown.Conversation, shown.Authorized = "", false // the push has the conversation itself
	o := newObject(r.Message)
	o.open("push")
	o.string("type", string(NewMessage))
	o.name("pos")
	o.text = append(r.Position.appendTo(append(o.text, '"')), '"')
	o.string("conversation", r.Message.Conversation)
	o.number("seq", r.Seq)
	o.message(&shown)
	return append(o.text, "}}"...), o.err
}

// object is the text of a JSON object that is not closed yet.
type object struct {
	text []byte
	err  error
}

// newObject returns an object with room for the message.
func newObject(m *Message) object {
	const names = 256 // of the members that most messages have, with their numbers
	return object{text: append(make([]byte, 0, names+len(m.Conversation)+len(m.ClientMsgID)+len(m.Content)+len(m.Extra)), '{')}
}

func (o *object) message(m *Message) {
	o.open("message")
	o.stringIfAny("message_id", m.MessageID)
	o.stringIfAny("client_msg_id", m.ClientMsgID)
	o.stringIfAny("conversation", m.Conversation)
	o.number("from", m.From)
	o.numberIfAny("to", m.To)
	o.numberIfAny("group_id", m.GroupID)
	o.string("content", m.Content)
	o.number("message_type", int64(m.MessageType))
	o.number("timestamp", m.Timestamp)
	if len(m.Extra) > 0 {
		o.value("extra", m.Extra)
	}
	o.stringIfAny("reply_to", m.ReplyTo)
	if len(m.Mentions) > 0 {
		o.value("mentions", m.Mentions)
	}
	if m.Authorized {
		o.value("authorized", true)
	}
	if m.Recalled {
		o.value("recalled", true)
	}
	o.text = append(o.text, '}')
}

// open begins an object inside this one.
func (o *object) open(name string) {
	o.name(name)
	o.text = append(o.text, '{')
}

func (o *object) name(name string) {
	if o.text[len(o.text)-1] != '{' {
		o.text = append(o.text, ',')
	}
	o.text = append(append(append(o.text, '"'), name...), `":`...)
}

func (o *object) number(name string, n int64) {
	o.name(name)
	o.text = strconv.AppendInt(o.text, n, 10)
}

func (o *object) numberIfAny(name string, n int64) {
	if n != 0 {
		o.number(name, n)
	}
}

func (o *object) stringIfAny(name, s string) {
	if s != "" {
		o.string(name, s)
	}
}

func (o *object) string(name, s string) {
	if !plain(s) {
		o.value(name, s)
		return
	}
	o.name(name)
	o.text = append(append(append(o.text, '"'), s...), '"')
}

// plain reports whether the text stands in JSON as it is. Anything that encoding/json might escape is not plain.
func plain(s string) bool {
	for _, r := range s {
		if r < ' ' || r == '"' || r == '\\' || r == utf8.RuneError || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// value adds a member of any type.
func (o *object) value(name string, v any) {
	text, err := marshal(v)
	if err != nil {
		o.err = err
	}
	o.name(name)
	o.text = append(o.text, text...)
}
