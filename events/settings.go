package events

// TypeSettingsChanged is the type of the push of a [ConversationSettings] event.
const TypeSettingsChanged Type = "settings_changed"

// Settings are what a user has set for a conversation, for itself alone. In an event, those that are nil stay as they are.
type Settings struct {
	// MutedUntil is in Unix seconds; 0: not muted.
	MutedUntil *int64 `json:"muted_until,omitempty"`
	Pinned     *bool  `json:"pinned,omitempty"`
	// Hidden ends with the next message of the conversation.
	Hidden *bool `json:"hidden,omitempty"`
}

func (e *Event) validateSettings() error {
	c, err := ParseConversation(e.Conversation)
	switch {
	case err != nil:
		return err
	case !c.mayHave(e.User):
		return invalid("user %d", e.User)
	case e.Settings == Settings{}:
		return invalid("want at least one of muted_until, pinned and hidden")
	case e.MutedUntil == nil:
		return nil
	}
	return validateTimestamp(*e.MutedUntil)
}
