package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"millrace/events"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// SendMessage implements the call of the contract.
func (s *Service) SendMessage(ctx context.Context, r *apiv1.SendMessageRequest) (*apiv1.SendMessageResponse, error) {
	from := r.GetFrom()
	if from == 0 {
		from = s.SystemUser
	}
	if from == 0 {
		return nil, status.Error(codes.InvalidArgument, "from is absent, and no user is configured that the system sends as: set MILLRACE_API_SYSTEM_USER")
	}
	extra, err := encode(r.GetExtra())
	if err != nil {
		return nil, err
	}
	sent, err := s.Messages.SendWSMessage(ctx, &millracev1.SendWSMessageRequest{
		Sender: &millracev1.Sender{User: from}, To: r.GetTo(), GroupId: r.GetGroupId(), Content: r.GetContent(),
		MessageType: r.GetMessageType(), ClientMsgId: r.GetClientMsgId(), Extra: extra, ReplyTo: r.GetReplyTo(), Mentions: r.GetMentions(),
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.SendMessageResponse{
		MessageId: sent.GetMessageId(), Conversation: sent.GetConversation(), Timestamp: sent.GetTimestamp(), Replaced: sent.GetReplaced(),
	}, nil
}

// ListMessages implements the call of the contract.
func (s *Service) ListMessages(ctx context.Context, r *apiv1.ListMessagesRequest) (*apiv1.ListMessagesResponse, error) {
	page, err := s.Messages.History(ctx, &millracev1.HistoryRequest{
		User: r.GetUser(), Conversation: r.GetConversation(), BeforeSeq: r.BeforeSeq, AfterSeq: r.AfterSeq, Limit: r.GetLimit(),
	})
	if err != nil {
		return nil, err
	}
	response := &apiv1.ListMessagesResponse{More: page.GetMore()}
	for _, m := range page.GetMessages() {
		shown, err := show(m)
		if err != nil {
			return nil, err
		}
		response.Messages = append(response.Messages, shown)
	}
	return response, nil
}

// EditMessage implements the call of the contract.
func (s *Service) EditMessage(ctx context.Context, r *apiv1.EditMessageRequest) (*apiv1.EditMessageResponse, error) {
	extra, err := encode(r.GetExtra())
	if err != nil {
		return nil, err
	}
	_, err = s.Messages.EditMessage(ctx, &millracev1.EditMessageRequest{
		User: r.GetUser(), Conversation: r.GetConversation(), MessageId: r.GetMessageId(), Content: r.GetContent(), Extra: extra,
		ClientMsgId: r.GetClientMsgId(),
	})
	return &apiv1.EditMessageResponse{}, err
}

// RecallMessage implements the call of the contract.
func (s *Service) RecallMessage(ctx context.Context, r *apiv1.RecallMessageRequest) (*apiv1.RecallMessageResponse, error) {
	_, err := s.Messages.RecallMessage(ctx, &millracev1.RecallMessageRequest{
		User: r.GetUser(), Conversation: r.GetConversation(), MessageId: r.GetMessageId(),
	})
	return &apiv1.RecallMessageResponse{}, err
}

// ListConversations implements the call of the contract.
func (s *Service) ListConversations(
	ctx context.Context, r *apiv1.ListConversationsRequest,
) (*apiv1.ListConversationsResponse, error) {
	page, err := s.Messages.Conversations(ctx, &millracev1.ConversationsRequest{User: r.GetUser(), Limit: r.GetLimit(), Next: r.GetNext()})
	if err != nil {
		return nil, err
	}
	response := &apiv1.ListConversationsResponse{More: page.GetMore()}
	for _, c := range page.GetConversations() {
		last, err := show(c.GetLast())
		if err != nil {
			return nil, err
		}
		response.Conversations = append(response.Conversations, &apiv1.Conversation{
			Conversation: c.GetConversation(), Last: last, Unread: c.GetUnread(), ReadSeq: c.GetReadSeq(), MutedUntil: c.GetMutedUntil(),
			Pinned: c.GetPinned(), Hidden: c.GetHidden(),
		})
		if page.GetMore() {
			response.Next = c.GetNext()
		}
	}
	return response, nil
}

// ListReaders implements the call of the contract.
func (s *Service) ListReaders(ctx context.Context, r *apiv1.ListReadersRequest) (*apiv1.ListReadersResponse, error) {
	page, err := s.Messages.Readers(ctx, &millracev1.ReadersRequest{User: r.GetUser(), Conversation: r.GetConversation(), Seq: r.GetSeq()})
	if err != nil {
		return nil, err
	}
	response := &apiv1.ListReadersResponse{}
	for _, reader := range page.GetReaders() {
		response.Readers = append(response.Readers, &apiv1.Reader{User: reader.GetUser(), Seq: reader.GetSeq()})
	}
	return response, nil
}

// encode returns the extra of a message as JSON.
func encode(extra *structpb.Struct) ([]byte, error) {
	if extra == nil {
		return nil, nil
	}
	data, err := extra.MarshalJSON()
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "extra: %v", err)
	}
	return data, nil
}

// show returns the message as the API shows it, or nil for none.
func show(m *millracev1.StoredMessage) (*apiv1.Message, error) {
	if m == nil {
		return nil, nil
	}
	shown := &apiv1.Message{
		Seq: m.GetSeq(), MessageId: m.GetMessageId(), ClientMsgId: m.GetClientMsgId(), From: m.GetFrom(), To: m.GetTo(), GroupId: m.GetGroupId(),
		Content: m.GetContent(), MessageType: m.GetMessageType(), Timestamp: m.GetTimestamp(), Recalled: m.GetRecalled(),
		EditedAt: m.GetEditedAt(), ReplyTo: m.GetReplyTo(), Mentions: m.GetMentions(),
	}
	if len(m.GetExtra()) > 0 {
		shown.Extra = &structpb.Struct{}
		if err := shown.Extra.UnmarshalJSON(m.GetExtra()); err != nil {
			return nil, status.Errorf(codes.Internal, "the extra of message %s cannot be shown: %v", m.GetMessageId(), err)
		}
	}
	return shown, nil
}

// checkID returns an error if the id is that of no user or group.
func checkID(name string, id int64) error {
	if id < 1 || id > events.MaxID {
		return status.Errorf(codes.InvalidArgument, "%s is not from 1 to %d", name, int64(events.MaxID))
	}
	return nil
}
