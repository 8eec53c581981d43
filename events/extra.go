package events

import "github.com/go-json-experiment/json/jsontext"

// Extra is the application's own part of a message: a JSON object as its sender has given it, but for the space between its
// tokens. It is nil if there is none.
type Extra []byte

// MarshalJSON returns the object.
func (e Extra) MarshalJSON() ([]byte, error) {
	if len(e) == 0 {
		return []byte("null"), nil
	}
	return e, nil
}

// UnmarshalJSON keeps a copy of the value, whatever it is. A null is none, as for every optional member.
func (e *Extra) UnmarshalJSON(value []byte) error {
	*e = nil
	if string(value) != "null" {
		*e = append(*e, value...)
	}
	return nil
}

// Validate returns an [InvalidError] for what no message can have.
func (e Extra) Validate() error {
	switch {
	case len(e) > MaxExtraBytes:
		return invalid("extra of %d bytes, more than %d", len(e), MaxExtraBytes)
	case len(e) > 0 && (jsontext.Value(e).Kind() != '{' || !jsontext.Value(e).IsValid()):
		return invalid("extra: want a JSON object without repeated names")
	}
	return nil
}

// validateReferences checks what the message says about another message and about users. It does not check whether reply_to
// names a message of the conversation: clients have to expect an answer to a message that their users cannot see, since it may
// be from before they joined.
func (m *Message) validateReferences() error {
	if len(m.ReplyTo) > MaxClientMsgBytes {
		return invalid("reply_to of %d bytes", len(m.ReplyTo))
	}
	if len(m.Mentions) > MaxMentions {
		return invalid("%d mentions, more than %d", len(m.Mentions), MaxMentions)
	}
	for _, user := range m.Mentions {
		if !validID(user) {
			return invalid("mention of user %d", user)
		}
	}
	return nil
}
