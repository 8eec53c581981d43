package message

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxWaiting bounds the batches of a node that may wait for the store. It is half of what one stream may leave
	// unanswered, so that a store which does not respond never keeps sends from being read.
	maxWaiting = maxUnanswered / 2
	// changeTimeout bounds what a change waits for apart from its publishing. The gateway waits 4.5 s.
	changeTimeout = 4 * time.Second
)

var errWaiting = errors.New("too many changes wait for the store")

// run makes the changes of one batch in their order and returns a result for each. A change that is refused for its own fault
// holds up none after it. After a change that is unavailable, or whose outcome is unknown, all later ones are refused as
// unavailable, because they would overtake what the caller is going to repeat. Only a read has no place in the order, because
// it moves a mark that never goes back.
func (s *Service) run(ctx context.Context, batch *millracev1.SendBatch) []*millracev1.SendResult {
	changes := batch.GetChanges()
	results := s.send(ctx, batch.GetMessages())
	if len(changes) == 0 {
		return results
	}
	broken := unavailableIn(results)
	if !s.waiting.TryAcquire(1) {
		broken = failed(errWaiting)
	} else {
		defer s.waiting.Release(1)
	}
	actor, conversation := placeOf(changes[0])
	for len(changes) > 0 {
		sends := leadingSends(changes)
		n := max(1, len(sends))
		switch by, in := placeOf(changes[0]); {
		case broken != nil:
			n = len(changes)
			for range changes {
				results = append(results, broken)
			}
		case by != actor || in != conversation:
			n = 1
			results = append(results, failed(refuse(codes.InvalidArgument, "a batch is of one user and one conversation")))
		case len(sends) > 0:
			answers := s.send(ctx, sends)
			results, broken = append(results, answers...), unavailableIn(answers)
		default:
			result := s.change(ctx, changes[0])
			if results = append(results, result); changes[0].GetRead() == nil {
				broken = unavailableIn([]*millracev1.SendResult{result})
			}
		}
		changes = changes[n:]
	}
	return results
}

// leadingSends returns the sends with which the changes begin; send publishes them together.
func leadingSends(changes []*millracev1.Change) (sends []*millracev1.SendWSMessageRequest) {
	for _, c := range changes {
		if c.GetSend() == nil {
			break
		}
		sends = append(sends, c.GetSend())
	}
	return sends
}

// unavailableIn returns the first result that is the fault neither of the change nor of its author, or nil.
func unavailableIn(results []*millracev1.SendResult) *millracev1.SendResult {
	for _, r := range results {
		if codes.Code(r.GetCode()) == codes.Unavailable {
			return r
		}
	}
	return nil
}

// placeOf returns the user and the conversation of the change. The conversation is empty for a group that is to be created.
func placeOf(c *millracev1.Change) (user int64, conversation string) {
	switch kind := c.GetKind().(type) {
	case *millracev1.Change_Send:
		from, to, group := kind.Send.GetSender().GetUser(), kind.Send.GetTo(), kind.Send.GetGroupId()
		if group != 0 {
			return from, events.Group(group)
		}
		return from, events.Direct(from, to)
	case *millracev1.Change_Edit:
		return kind.Edit.GetUser(), kind.Edit.GetConversation()
	case *millracev1.Change_Recall:
		return kind.Recall.GetUser(), kind.Recall.GetConversation()
	case *millracev1.Change_Read:
		return kind.Read.GetUser(), kind.Read.GetConversation()
	case *millracev1.Change_CreateGroup:
		return kind.CreateGroup.GetSender().GetUser(), ""
	case *millracev1.Change_JoinGroup:
		return kind.JoinGroup.GetSender().GetUser(), events.Group(kind.JoinGroup.GetGroupId())
	case *millracev1.Change_LeaveGroup:
		return kind.LeaveGroup.GetSender().GetUser(), events.Group(kind.LeaveGroup.GetGroupId())
	case *millracev1.Change_AddMember:
		return kind.AddMember.GetSender().GetUser(), events.Group(kind.AddMember.GetGroupId())
	case *millracev1.Change_RemoveMember:
		return kind.RemoveMember.GetSender().GetUser(), events.Group(kind.RemoveMember.GetGroupId())
	case *millracev1.Change_Settings:
		return kind.Settings.GetUser(), kind.Settings.GetConversation()
	case *millracev1.Change_ChangeRole:
		return kind.ChangeRole.GetSender().GetUser(), events.Group(kind.ChangeRole.GetGroupId())
	case *millracev1.Change_MuteMember:
		return kind.MuteMember.GetSender().GetUser(), events.Group(kind.MuteMember.GetGroupId())
	case *millracev1.Change_Block:
		by := kind.Block.GetSender().GetUser()
		return by, events.Direct(by, kind.Block.GetUser())
	case *millracev1.Change_Unblock:
		by := kind.Unblock.GetSender().GetUser()
		return by, events.Direct(by, kind.Unblock.GetUser())
	case *millracev1.Change_RenameGroup:
		return kind.RenameGroup.GetSender().GetUser(), events.Group(kind.RenameGroup.GetGroupId())
	case *millracev1.Change_DissolveGroup:
		return kind.DissolveGroup.GetSender().GetUser(), events.Group(kind.DissolveGroup.GetGroupId())
	}
	return 0, ""
}

// change makes one change that is no send.
func (s *Service) change(ctx context.Context, c *millracev1.Change) (result *millracev1.SendResult) {
	if s.tracer != nil {
		var span trace.Span
		ctx, span = s.startChange(ctx, c.GetTrace(), c.GetCorrelationId())
		defer func() { endChange(span, result) }()
	}
	ctx, cancel := context.WithTimeout(events.WithCorrelation(ctx, c.GetCorrelationId()), changeTimeout)
	defer cancel()
	var group *millracev1.Group
	var err error
	switch kind := c.GetKind().(type) {
	case *millracev1.Change_Edit:
		err = s.editMessage(ctx, kind.Edit)
	case *millracev1.Change_Recall:
		err = s.recallMessage(ctx, kind.Recall)
	case *millracev1.Change_Read:
		err = s.markRead(ctx, kind.Read)
	case *millracev1.Change_CreateGroup:
		group, err = s.createGroup(ctx, kind.CreateGroup)
	case *millracev1.Change_JoinGroup:
		group, err = s.joinGroup(ctx, kind.JoinGroup)
	case *millracev1.Change_LeaveGroup:
		err = s.leaveGroup(ctx, kind.LeaveGroup)
	case *millracev1.Change_AddMember:
		group, err = s.addMember(ctx, kind.AddMember)
	case *millracev1.Change_RemoveMember:
		group, err = s.removeMember(ctx, kind.RemoveMember)
	case *millracev1.Change_Settings:
		err = s.changeSettings(ctx, kind.Settings)
	case *millracev1.Change_ChangeRole:
		group, err = s.changeRole(ctx, kind.ChangeRole)
	case *millracev1.Change_MuteMember:
		group, err = s.muteMember(ctx, kind.MuteMember)
	case *millracev1.Change_Block:
		err = s.block(ctx, kind.Block)
	case *millracev1.Change_Unblock:
		err = s.unblock(ctx, kind.Unblock)
	case *millracev1.Change_RenameGroup:
		group, err = s.renameGroup(ctx, kind.RenameGroup)
	case *millracev1.Change_DissolveGroup:
		err = s.dissolveGroup(ctx, kind.DissolveGroup)
	default:
		err = refuse(codes.InvalidArgument, "a change of no known kind")
	}
	if err != nil {
		return failed(err)
	}
	return &millracev1.SendResult{Group: group}
}
