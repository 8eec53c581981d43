package connect

import (
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// outgoing is a change that the client has asked for and that is not answered yet.
type outgoing struct {
	id     int64
	verb   string
	at     time.Time
	change millracev1.Change
	size   int   // of content and extra, in bytes
	weight int64 // what it takes of the connection's window
	stored bool  // the answer comes only once the change is stored
	named  bool  // the client has set a client_msg_id

	span trace.Span // nil unless the request is recorded
}

// repeats reports whether the change repeats the other one: it has the same client_msg_id or, if the client set none, equals
// the other in every other respect.
func (m *outgoing) repeats(other *outgoing) bool {
	if m.verb != other.verb || m.named != other.named {
		return false
	}
	if m.named {
		return nameOf(&m.change) == nameOf(&other.change)
	}
	return proto.Equal(nameless(&m.change), nameless(&other.change))
}

// nameOf returns the change's client_msg_id.
func nameOf(c *millracev1.Change) string {
	switch kind := c.GetKind().(type) {
	case *millracev1.Change_Send:
		return kind.Send.GetClientMsgId()
	case *millracev1.Change_Edit:
		return kind.Edit.GetClientMsgId()
	case *millracev1.Change_CreateGroup:
		return kind.CreateGroup.GetClientMsgId()
	case *millracev1.Change_JoinGroup:
		return kind.JoinGroup.GetClientMsgId()
	case *millracev1.Change_LeaveGroup:
		return kind.LeaveGroup.GetClientMsgId()
	case *millracev1.Change_AddMember:
		return kind.AddMember.GetClientMsgId()
	case *millracev1.Change_RemoveMember:
		return kind.RemoveMember.GetClientMsgId()
	case *millracev1.Change_ChangeRole:
		return kind.ChangeRole.GetClientMsgId()
	case *millracev1.Change_MuteMember:
		return kind.MuteMember.GetClientMsgId()
	case *millracev1.Change_RenameGroup:
		return kind.RenameGroup.GetClientMsgId()
	}
	return ""
}

// nameless returns a copy without the ids that this gateway has drawn.
func nameless(c *millracev1.Change) *millracev1.Change {
	c = proto.CloneOf(c)
	c.CorrelationId, c.Trace = "", nil
	switch kind := c.GetKind().(type) {
	case *millracev1.Change_Send:
		kind.Send.ClientMsgId, kind.Send.CorrelationId, kind.Send.Trace = "", "", nil
	case *millracev1.Change_Edit:
		kind.Edit.ClientMsgId = ""
	case *millracev1.Change_CreateGroup:
		kind.CreateGroup.ClientMsgId = ""
	case *millracev1.Change_RenameGroup:
		kind.RenameGroup.ClientMsgId = ""
	case *millracev1.Change_MuteMember:
		kind.MuteMember.ClientMsgId = ""
	}
	return c
}

// change puts a request that changes a conversation into the conversation's lane.
func (s *session) change(r request) {
	_, span := s.startSpan(s.ctx, r)
	conversation, m, refused := s.compose(r)
	if refused != nil {
		if r.verb == "send" {
			s.gw.metrics.sends.WithLabelValues(refused.Code).Inc()
		}
		s.logAnswer(span, r.id, r.verb, refused)
		s.refuse(r.id, refused)
		endSpan(span, refused)
		return
	}
	m.id, m.verb, m.at = r.id, r.verb, time.Now()
	if span != nil {
		m.trace(span, conversation)
	}
	if s.window.TryAcquire(m.weight) || s.window.Acquire(s.ctx, m.weight) == nil {
		s.lanes.add(conversation, m)
	}
}

// compose makes the change that the request asks for. If a change would take effect twice when it is given to two message
// nodes, compose draws a client_msg_id for it.
func (s *session) compose(r request) (conversation string, m *outgoing, refused *refusal) {
	m = &outgoing{change: millracev1.Change{CorrelationId: s.correlation(r.id)}, weight: 1}
	switch r.verb {
	case "send":
		conversation, refused = s.composeSend(r, m)
	case "edit", "recall", "read":
		conversation, refused = s.composeChange(r, m)
	case "settings":
		conversation, refused = s.composeSettings(r, m)
	case "group_mute":
		conversation, refused = s.composeMute(r, m)
	case "block", "unblock":
		conversation, refused = s.composeBlock(r, m)
	default:
		conversation, refused = s.composeGroup(r, m)
	}
	return conversation, m, refused
}

// weigh counts a change with content by its KiB.
func (m *outgoing) weigh(s *session, content string, extra events.Extra) {
	m.size = len(content) + len(extra)
	m.weight = min(1+int64(m.size>>10), int64(s.gw.cfg.Unanswered))
}

func (s *session) composeSend(r request, m *outgoing) (string, *refusal) {
	var b sendBody
	if refused := r.into(&b); refused != nil {
		return "", refused
	}
	conversation, refused := target(s.identity.User, b.To, b.GroupID)
	if refused == nil {
		refused = b.check()
	}
	if refused != nil {
		return "", refused
	}
	m.named = b.ClientMsgID != ""
	m.weigh(s, b.Content, b.Extra)
	m.change.Kind = &millracev1.Change_Send{Send: &millracev1.SendWSMessageRequest{
		Sender: s.sender, To: b.To, GroupId: b.GroupID, Content: b.Content, MessageType: b.MessageType,
		ClientMsgId: orDrawn(b.ClientMsgID), CorrelationId: m.change.GetCorrelationId(),
		Extra: b.Extra, ReplyTo: b.ReplyTo, Mentions: b.Mentions,
	}}
	return conversation, nil
}

func (s *session) composeChange(r request, m *outgoing) (string, *refusal) {
	var b messageBody
	if refused := r.into(&b); refused != nil {
		return "", refused
	}
	if refused := checkConversation(b.Conversation); refused != nil {
		return "", refused
	}
	if refused := checkContent(b.Content, b.Extra); refused != nil {
		return "", refused
	}
	if refused := checkClientMsgID(b.ClientMsgID); refused != nil {
		return "", refused
	}
	user := s.identity.User
	m.named = b.ClientMsgID != "" && r.verb == "edit"
	switch r.verb {
	case "edit":
		m.weigh(s, b.Content, b.Extra)
		m.change.Kind = &millracev1.Change_Edit{Edit: &millracev1.EditMessageRequest{
			User: user, Conversation: b.Conversation, MessageId: b.MessageID, Content: b.Content, Extra: b.Extra,
			ClientMsgId: orDrawn(b.ClientMsgID), Sender: s.sender,
		}}
	case "recall":
		m.change.Kind = &millracev1.Change_Recall{Recall: &millracev1.RecallMessageRequest{
			User: user, Conversation: b.Conversation, MessageId: b.MessageID,
		}}
	case "read":
		m.change.Kind = &millracev1.Change_Read{Read: &millracev1.MarkReadRequest{
			User: user, Conversation: b.Conversation, Seq: b.Seq,
		}}
	}
	return b.Conversation, nil
}

func (s *session) composeSettings(r request, m *outgoing) (string, *refusal) {
	var b settingsBody
	if refused := r.into(&b); refused != nil {
		return "", refused
	}
	if refused := checkConversation(b.Conversation); refused != nil {
		return "", refused
	}
	m.change.Kind = &millracev1.Change_Settings{Settings: &millracev1.ChangeSettingsRequest{
		User: s.identity.User, Conversation: b.Conversation, MutedUntil: b.MutedUntil, Pinned: b.Pinned, Hidden: b.Hidden,
	}}
	return b.Conversation, nil
}

// newGroup begins the name of the lane of a group that is to be created, because it has no conversation yet.
const newGroup = "new:"

func (s *session) composeGroup(r request, m *outgoing) (string, *refusal) {
	var b groupBody
	refused := r.into(&b)
	if refused == nil {
		refused = checkClientMsgID(b.ClientMsgID)
	}
	if refused != nil {
		return "", refused
	}
	m.changesGroup(s, b.ClientMsgID)
	if r.verb == "group_create" {
		if b.Join != "" && b.Join != events.JoinOpen {
			return "", refuse(codeInvalid, `join: want "open" or nothing`)
		}
		name := orDrawn(b.ClientMsgID)
		m.change.Kind = &millracev1.Change_CreateGroup{CreateGroup: &millracev1.CreateGroupRequest{
			Sender: s.sender, Name: b.Name, Members: b.Members, Open: b.Join == events.JoinOpen, ClientMsgId: name,
		}}
		return newGroup + name, nil
	}
	if refused := checkGroup(b.GroupID); refused != nil {
		return "", refused
	}
	switch r.verb {
	case "group_join":
		m.change.Kind = &millracev1.Change_JoinGroup{JoinGroup: &millracev1.JoinGroupRequest{
			Sender: s.sender, GroupId: b.GroupID, ClientMsgId: b.ClientMsgID,
		}}
	case "group_leave":
		m.change.Kind = &millracev1.Change_LeaveGroup{LeaveGroup: &millracev1.LeaveGroupRequest{
			Sender: s.sender, GroupId: b.GroupID, ClientMsgId: b.ClientMsgID,
		}}
	case "group_add":
		m.change.Kind = &millracev1.Change_AddMember{AddMember: &millracev1.AddMemberRequest{
			Sender: s.sender, GroupId: b.GroupID, User: b.User, ClientMsgId: b.ClientMsgID,
		}}
	case "group_remove":
		m.change.Kind = &millracev1.Change_RemoveMember{RemoveMember: &millracev1.RemoveMemberRequest{
			Sender: s.sender, GroupId: b.GroupID, User: b.User, ClientMsgId: b.ClientMsgID,
		}}
	case "group_role":
		m.change.Kind = &millracev1.Change_ChangeRole{ChangeRole: &millracev1.ChangeRoleRequest{
			Sender: s.sender, GroupId: b.GroupID, User: b.User, Role: b.Role, ClientMsgId: b.ClientMsgID,
		}}
	case "group_rename":
		m.change.Kind = &millracev1.Change_RenameGroup{RenameGroup: &millracev1.RenameGroupRequest{
			Sender: s.sender, GroupId: b.GroupID, Name: b.Name, ClientMsgId: orDrawn(b.ClientMsgID),
		}}
	case "group_dissolve":
		m.change.Kind = &millracev1.Change_DissolveGroup{DissolveGroup: &millracev1.DissolveGroupRequest{
			Sender: s.sender, GroupId: b.GroupID,
		}}
	}
	return events.Group(b.GroupID), nil
}

func checkGroup(id int64) *refusal {
	if id < 1 || id > events.MaxID {
		return refuse(codeInvalid, "group_id: want an integer from 1 to 2^53-1")
	}
	return nil
}

// changesGroup notes that the change is one of a group. The answers of such changes are long, so only a few may be unanswered at
// a time.
func (m *outgoing) changesGroup(s *session, clientMsgID string) {
	m.stored, m.named = true, clientMsgID != ""
	m.weight = max(int64(s.gw.cfg.Unanswered)/4, 1)
}

// composeMute refuses a user that is 0, so that a fault of a client does not mute everybody.
func (s *session) composeMute(r request, m *outgoing) (string, *refusal) {
	var b muteBody
	if refused := r.into(&b); refused != nil {
		return "", refused
	}
	if refused := checkClientMsgID(b.ClientMsgID); refused != nil {
		return "", refused
	}
	if refused := checkGroup(b.GroupID); refused != nil {
		return "", refused
	}
	switch {
	case b.Until == nil:
		return "", refuse(codeInvalid, "until: want Unix seconds, or 0")
	case b.User != nil && (*b.User < 1 || *b.User > events.MaxID):
		return "", refuse(codeInvalid, "user: want an integer from 1 to 2^53-1, or none for all members")
	}
	m.changesGroup(s, b.ClientMsgID)
	mute := &millracev1.MuteMemberRequest{
		Sender: s.sender, GroupId: b.GroupID, Until: *b.Until, ClientMsgId: orDrawn(b.ClientMsgID),
	}
	if b.User != nil {
		mute.User = *b.User
	}
	m.change.Kind = &millracev1.Change_MuteMember{MuteMember: mute}
	return events.Group(b.GroupID), nil
}

func orDrawn(clientMsgID string) string {
	if clientMsgID == "" {
		return newID()
	}
	return clientMsgID
}

// answer tells the client the outcome of its change.
func (l *lanes) answer(m *outgoing, result *millracev1.SendResult, refused *refusal) {
	s := l.session
	if m.verb == "send" {
		s.gw.metrics.send(m, refused)
	}
	s.logAnswer(m.span, m.id, m.verb, refused)
	switch {
	case refused != nil:
		s.refuse(m.id, refused)
	case m.verb == "block" || m.verb == "unblock":
		s.gw.hub.announceBlock(&m.change)
		s.answer(m.id, "ok", struct{}{})
	case result.GetSent() != nil:
		sent := result.GetSent()
		if to := m.change.GetSend().GetTo(); to != 0 {
			s.acquaintances.note(to, true)
		}
		s.out.answer(sentFrame(m.id, sent))
	case result.GetGroup() != nil:
		s.answer(m.id, "group", groupOf(result.GetGroup()))
	default:
		s.answer(m.id, "ok", struct{}{})
	}
	s.window.Release(m.weight)
	endSpan(m.span, refused)
}
