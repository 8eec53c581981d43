package events

import "slices"

// This file has the rules that can be checked with a record alone. Every consumer decodes with [Decode], so all consumers
// refuse the same records. Rules that need the store are checked by the storage handler.

// Validate returns an [InvalidError] if no topic may carry the event.
func (e *Event) Validate() error {
	if err := validateTimestamp(e.Timestamp); err != nil {
		return err
	}
	if len(e.EventID) > MaxClientMsgBytes {
		return invalid("event_id of %d bytes", len(e.EventID))
	}
	if e.Type != NewMessage && e.Message != nil {
		return invalid("a message in %.80q", e.Type)
	}
	switch e.Type {
	case NewMessage:
		if e.Message == nil {
			return invalid("no message")
		}
		return e.Message.validate()
	case MessageEdited, MessageRecalled:
		return e.validateChange()
	case MessageRead:
		return e.validateRead()
	case GroupCreated, MemberJoined, MemberLeft, GroupDissolved, GroupRenamed, MemberRole, MemberMuted:
		return e.validateGroup()
	case ConversationSettings:
		return e.validateSettings()
	case MessageModerated:
		return e.validateModerated()
	case UserOnline, UserOffline, UserBlocked, UserUnblocked:
		return e.validateUser()
	case TokensRevoked:
		return e.validateRevocation()
	case SystemNotice:
		return e.validateNotice()
	case OperatorCalled:
		return e.validateCall()
	}
	return invalid("unknown type %.80q", e.Type)
}

// validateAt checks that a change comes after the message that it is about. It says nothing about positions in different
// epochs, because a reader without a store takes every record to be in the first epoch.
func (e *Event) validateAt(pos Position) error {
	change := e.Type == MessageEdited || e.Type == MessageRecalled || e.Type == MessageModerated
	if change && e.MessageSeq >= pos.Seq && EpochStart(e.MessageSeq) == EpochStart(pos.Seq) {
		return invalid("seq %d does not lie before the record's own, %d", e.MessageSeq, pos.Seq)
	}
	return nil
}

func (m *Message) validate() error {
	switch {
	case !validID(m.From):
		return invalid("from %d", m.From)
	case (m.To == 0) == (m.GroupID == 0):
		return invalid("want exactly one of to and group_id")
	case m.To != 0 && !validID(m.To):
		return invalid("to %d", m.To)
	case m.GroupID != 0 && !validID(m.GroupID):
		return invalid("group_id %d", m.GroupID)
	case m.GroupID == 0 && m.Conversation != Direct(m.From, m.To):
		return invalid("conversation %.80q, want %q", m.Conversation, Direct(m.From, m.To))
	case m.GroupID != 0 && m.Conversation != Group(m.GroupID):
		return invalid("conversation %.80q, want %q", m.Conversation, Group(m.GroupID))
	case m.MessageID == "" || len(m.MessageID) > MaxClientMsgBytes:
		return invalid("message_id of %d bytes", len(m.MessageID))
	case len(m.ClientMsgID) > MaxClientMsgBytes:
		return invalid("client_msg_id of %d bytes", len(m.ClientMsgID))
	case m.MessageType < 1 || m.MessageType > lastNamedMessageType && m.MessageType < FirstOwnMessageType:
		return invalid("message_type %d: want 1 to %d, or %d and above", m.MessageType, lastNamedMessageType, FirstOwnMessageType)
	case m.Recalled:
		return invalid("recalled in a new message")
	}
	if err := ValidateContent(m.Content); err != nil {
		return err
	}
	if err := m.Extra.Validate(); err != nil {
		return err
	}
	if err := m.validateReferences(); err != nil {
		return err
	}
	return validateTimestamp(m.Timestamp)
}

// ValidateContent returns an [InvalidError] for content that no message or edit can have: none at all, or more than
// [MaxContentBytes].
func ValidateContent(content string) error {
	switch {
	case content == "":
		return invalid("no content")
	case len(content) > MaxContentBytes:
		return invalid("content of %d bytes, more than %d", len(content), MaxContentBytes)
	}
	return nil
}

// validateAbout checks what the event says about which message it is about.
func (e *Event) validateAbout() error {
	switch {
	case e.MessageID == "" || len(e.MessageID) > MaxClientMsgBytes:
		return invalid("message_id of %d bytes", len(e.MessageID))
	case !validSeq(e.MessageSeq):
		return invalid("seq %d", e.MessageSeq)
	}
	return nil
}

func (e *Event) validateModerated() error {
	c, err := ParseConversation(e.Conversation)
	if err != nil {
		return err
	}
	if err := e.validateAbout(); err != nil {
		return err
	}
	if !c.mayHave(e.User) {
		return invalid("user %d", e.User)
	}
	return validateReason(e.Reason)
}

func validateReason(reason string) error {
	if reason == "" || len(reason) > MaxReasonBytes {
		return invalid("reason of %d bytes, want 1 to %d", len(reason), MaxReasonBytes)
	}
	return nil
}

func (e *Event) validateChange() error {
	if _, err := ParseConversation(e.Conversation); err != nil {
		return err
	}
	if err := e.validateAbout(); err != nil {
		return err
	}
	if e.ByModeration() {
		if err := validateReason(e.Reason); err != nil {
			return err
		}
	} else if !validID(e.By) || e.Reason != "" {
		return invalid("by %d: want the user who changes the message, or of a recall a reason instead", e.By)
	}
	switch {
	case e.Type == MessageRecalled && (e.Content != "" || e.Extra != nil):
		return invalid("content in a recall")
	case e.Type == MessageRecalled:
		return nil
	}
	if err := ValidateContent(e.Content); err != nil {
		return err
	}
	return e.Extra.Validate()
}

func (e *Event) validateRead() error {
	c, err := ParseConversation(e.Conversation)
	switch {
	case err != nil:
		return err
	case !c.mayHave(e.User):
		return invalid("user %d", e.User)
	case !validSeq(e.MessageSeq):
		return invalid("seq %d", e.MessageSeq)
	}
	return nil
}

func (e *Event) validateGroup() error {
	switch {
	case !validID(e.GroupID):
		return invalid("group_id %d", e.GroupID)
	case e.Conversation != Group(e.GroupID):
		return invalid("conversation %.80q, want %q", e.Conversation, Group(e.GroupID))
	case !validID(e.User) && e.Type != GroupRenamed && (e.Type != MemberMuted || e.User != 0):
		return invalid("user %d", e.User)
	case !validID(e.By):
		return invalid("by %d", e.By)
	case e.Type == GroupRenamed && (e.User != 0 || e.Name == ""):
		return invalid("want a name and no user in %q", e.Type)
	case len(e.Name) > MaxGroupNameBytes:
		return invalid("name of %d bytes", len(e.Name))
	case len(e.Members) > MaxGroupMembers:
		return invalid("%d members", len(e.Members))
	case (e.Type == GroupCreated || e.Type == GroupDissolved) && e.By != e.User:
		return invalid("by %d, want the owner, user %d", e.By, e.User)
	case e.Join != "" && e.Join != JoinOpen:
		return invalid("join %.80q, want %q or nothing", e.Join, JoinOpen)
	case len(e.ClientMsgID) > MaxClientMsgBytes:
		return invalid("client_msg_id of %d bytes", len(e.ClientMsgID))
	}
	switch e.Type {
	case GroupCreated:
		return e.validateMembers()
	case MemberRole:
		return e.validateRole()
	case MemberMuted:
		return e.validateMute()
	}
	return nil
}

func (e *Event) validateMembers() error {
	for i, member := range e.Members {
		if !validID(member) || i > 0 && member <= e.Members[i-1] {
			return invalid("member %d: want users in ascending order", member)
		}
	}
	if _, among := slices.BinarySearch(e.Members, e.User); !among {
		return invalid("the owner, user %d, is not among the members", e.User)
	}
	return nil
}

func (e *Event) validateUser() error {
	block := e.Type == UserBlocked || e.Type == UserUnblocked
	switch {
	case !validID(e.User):
		return invalid("user %d", e.User)
	case block && !validID(e.By):
		return invalid("by %d", e.By)
	case block && e.By == e.User:
		return invalid("user %d by itself", e.User)
	}
	return nil
}

func (e *Event) validateRevocation() error {
	if err := e.validateUser(); err != nil {
		return err
	}
	if e.Before < 1 {
		return invalid("before %d", e.Before)
	}
	return validateTimestamp(e.Before)
}

// maxTimestamp is the last second of the year 9999.
const maxTimestamp = 253_402_300_799

func validateTimestamp(seconds int64) error {
	switch {
	case seconds < 0:
		return invalid("timestamp %d", seconds)
	case seconds > maxTimestamp:
		hint := ""
		if seconds <= 1000*maxTimestamp {
			hint = ", these look like milliseconds"
		}
		return invalid("timestamp %d lies after the year 9999: want Unix seconds%s", seconds, hint)
	}
	return nil
}

func validID(id int64) bool { return id >= 1 && id <= MaxID }

func validSeq(seq int64) bool { return seq >= 1 && seq <= MaxID }
