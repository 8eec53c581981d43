package message

import (
	"context"
	"crypto/rand"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// changeSettings returns once the change is in the log.
func (s *Service) changeSettings(ctx context.Context, r *millracev1.ChangeSettingsRequest) error {
	if err := s.partOf(ctx, r.GetUser(), r.GetConversation()); err != nil {
		return err
	}
	_, err := s.publishEvent(ctx, &events.Event{
		Type: events.ConversationSettings, EventID: rand.Text(), Conversation: r.GetConversation(), User: r.GetUser(),
		Settings:  events.Settings{MutedUntil: r.MutedUntil, Pinned: r.Pinned, Hidden: r.Hidden},
		Timestamp: time.Now().Unix(),
	}, nil)
	return err
}
