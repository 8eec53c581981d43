package message

import (
	"context"

	"google.golang.org/grpc/codes"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// maxReaders bounds how many readers one answer names.
const maxReaders = 1000

// readers tells those who may write to the conversation now who has read it.
func (s *Service) readers(ctx context.Context, r *millracev1.ReadersRequest) (*millracev1.ReadersResponse, error) {
	if r.GetSeq() < 1 || r.GetSeq() > events.MaxID {
		return nil, refuse(codes.InvalidArgument, "seq %d", r.GetSeq())
	}
	if err := s.partOf(ctx, r.GetUser(), r.GetConversation()); err != nil {
		return nil, err
	}
	_ = s.soonStored(ctx, r.GetConversation())
	readers, err := s.store.Readers(ctx, r.GetConversation(), r.GetSeq(), maxReaders)
	if err != nil {
		return nil, err
	}
	response := &millracev1.ReadersResponse{}
	for _, reader := range readers {
		response.Readers = append(response.Readers, &millracev1.Reader{User: reader.User, Seq: reader.Seq})
	}
	return response, nil
}
