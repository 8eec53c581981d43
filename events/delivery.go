package events

import millracev1 "millrace/proto/millrace/v1"

// Push is the JSON of a push: the value of the member "push" in the frame that a client receives.
type Push struct {
	Type         Type         `json:"type"`
	Pos          string       `json:"pos,omitempty"`
	Conversation string       `json:"conversation,omitempty"`
	Seq          int64        `json:"seq,omitempty"`
	Message      *PushMessage `json:"message,omitempty"`

	NoticeID  string `json:"notice_id,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	Content   string `json:"content,omitempty"`
	Extra     Extra  `json:"extra,omitempty"`
	GroupID   int64  `json:"group_id,omitempty"`
	Name      string `json:"name,omitempty"`
	User      int64  `json:"user,omitempty"`
	By        int64  `json:"by,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Role      Role   `json:"role,omitempty"`
	Until     *int64 `json:"until,omitempty"`
	Settings
}

// PushMessage is a message inside a push or a page of history.
type PushMessage struct {
	MessageID   string  `json:"message_id"`
	ClientMsgID string  `json:"client_msg_id,omitempty"`
	From        int64   `json:"from"`
	To          int64   `json:"to,omitempty"`
	GroupID     int64   `json:"group_id,omitempty"`
	Content     string  `json:"content"`
	MessageType int32   `json:"message_type"`
	Timestamp   int64   `json:"timestamp"`
	Extra       Extra   `json:"extra,omitempty"`
	ReplyTo     string  `json:"reply_to,omitempty"`
	Mentions    []int64 `json:"mentions,omitempty"`
	Recalled    bool    `json:"recalled,omitempty"`
}

// DeliveryOf returns what the members of the record's conversation receive of it, or nil if its type is unknown. It returns
// the same whether the record is pushed, read from the log or read from the store.
func DeliveryOf(r *Record) (*millracev1.Delivery, error) {
	channels, err := ChannelsOf(r)
	if err != nil || channels == nil {
		return nil, err
	}
	return DeliveryOn(channels, r)
}

// DeliveryOn is [DeliveryOf] for a caller that has the channels of the record, which are not nil.
func DeliveryOn(channels []string, r *Record) (d *millracev1.Delivery, err error) {
	d = &millracev1.Delivery{Seq: r.Seq, Channels: channels, Trace: r.Trace}
	if r.Type == NewMessage {
		d.Push, err = newMessageFrame(r)
		return d, err
	}
	push := Push{Type: r.Type, Pos: r.Position.String()}
	switch r.Type {
	case MessageEdited, MessageRecalled:
		d.About = r.MessageSeq
		push.Conversation, push.MessageID, push.Seq, push.Content = r.Conversation, r.MessageID, r.MessageSeq, r.Content
		push.Extra = r.Extra
	case MessageRead:
		// A read mark cannot be resumed, so it has no position. It ends at its own record: nobody can have read what came
		// later.
		push.Pos, push.Conversation, push.User, push.Seq = "", r.Conversation, r.User, min(r.MessageSeq, r.Seq)
	case GroupCreated, MemberJoined, MemberLeft, GroupDissolved:
		push.GroupID, push.User, push.By = r.GroupID, r.User, r.By
		d.Change = r.membershipChange()
	case ConversationSettings:
		// Like a read mark, settings cannot be resumed: a client that comes back reads them with its conversations.
		push.Type, push.Pos, push.Conversation, push.Settings = TypeSettingsChanged, "", r.Conversation, r.Settings
	case MessageModerated:
		// Like settings, the reason cannot be resumed. The recall itself can.
		push.Pos, push.Conversation, push.MessageID, push.Seq, push.Reason = "", r.Conversation, r.MessageID, r.MessageSeq, r.Reason
	case GroupRenamed:
		push.GroupID, push.By, push.Name = r.GroupID, r.By, r.Name
	case MemberRole:
		push.GroupID, push.User, push.By, push.Role = r.GroupID, r.User, r.By, r.Role
	case MemberMuted:
		push.GroupID, push.User, push.By, push.Until = r.GroupID, r.User, r.By, r.Until
	}
	d.Push, err = push.frame()
	return d, err
}

// frame returns the complete text of the push for a WebSocket.
func (p *Push) frame() ([]byte, error) {
	return marshal(struct {
		Push *Push `json:"push"`
	}{p})
}

// ChannelsOf returns the channels on which the record is delivered, or nil if its type is unknown.
func ChannelsOf(r *Record) ([]string, error) {
	if !r.Type.Known() {
		return nil, nil
	}
	conversation, err := ParseConversation(r.ConversationKey())
	if err != nil {
		return nil, err
	}
	channels := conversation.Channels()
	switch r.Type {
	case MessageRead:
		// In a group, a read mark concerns only the other devices of the member who has read.
		if conversation.GroupID != 0 {
			channels = []string{UserChannel(r.User)}
		}
	case ConversationSettings, MessageModerated:
		channels = []string{UserChannel(r.User)}
	// Whoever joins is not subscribed to the group's channel yet, and whoever leaves is not for much longer, so both are also
	// told on the user's own channel.
	case GroupCreated:
		for _, member := range r.Members {
			channels = append(channels, UserChannel(member))
		}
	case MemberJoined, MemberLeft:
		channels = append(channels, UserChannel(r.User))
	}
	return channels, nil
}

func (e *Event) membershipChange() *millracev1.MembershipChange {
	change := &millracev1.MembershipChange{GroupId: e.GroupID}
	switch e.Type {
	case GroupCreated:
		change.Joined = append(change.Joined, e.Members...)
	case MemberJoined:
		change.Joined = []int64{e.User}
	case MemberLeft:
		change.Left = []int64{e.User}
	case GroupDissolved:
		change.Dissolved = true
	}
	return change
}
