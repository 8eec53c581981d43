package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/handlers/notify"
	"millrace/handlers/webhook"
	"millrace/infra/config"
	"millrace/infra/store"
)

// notifications is the part of a store that keeps what users are to be told of their conversations.
type notifications interface {
	Subscriptions(ctx context.Context, ids []int64) (map[int64][]store.Subscription, error)
	Settings(ctx context.Context, user int64, conversation string, seq int64) (store.Head, error)
	NoteMessages(ctx context.Context, notes []store.Note, due time.Time) error
	TakeNotifications(ctx context.Context, now, until time.Time, limit int) ([]store.Notification, error)
	SettleNotification(ctx context.Context, n store.Notification, told int, next time.Time, repeats []store.Notification) error
	DropNotifications(ctx context.Context, before time.Time) error
}

// notifyStore is a store as the notify handler sees it.
type notifyStore struct{ storeBackend }

var _ notify.Store = notifyStore{}

// Subscriptions implements [notify.Store].
func (s notifyStore) Subscriptions(ctx context.Context, ids []int64) (map[int64][]notify.Subscription, error) {
	found, err := s.storeBackend.Subscriptions(ctx, ids)
	all := make(map[int64][]notify.Subscription, len(found))
	for user, subscriptions := range found {
		for _, one := range subscriptions {
			all[user] = append(all[user], notify.Subscription(one))
		}
	}
	return all, err
}

// Settings implements [notify.Store].
func (s notifyStore) Settings(ctx context.Context, user int64, conversation string, seq int64) (mutedUntil int64, hidden bool, err error) {
	head, err := s.storeBackend.Settings(ctx, user, conversation, seq)
	return head.MutedUntil, head.Hidden, err
}

// Sees implements [notify.Store].
func (s notifyStore) Sees(ctx context.Context, user, group, seq int64) (bool, error) {
	stays, err := s.Stays(ctx, user, group)
	if err != nil || len(stays) == 0 {
		return false, err
	}
	last := stays[len(stays)-1]
	return last.Left == 0 && last.Joined < seq, nil
}

// Message implements [notify.Store].
func (s notifyStore) Message(ctx context.Context, conversation, messageID string) (notify.Message, bool, error) {
	m, err := s.storeBackend.Message(ctx, conversation, messageID)
	if errors.Is(err, store.ErrNotFound) {
		return notify.Message{}, false, nil
	}
	return notify.Message{Content: m.Content, Type: m.MessageType, Recalled: m.Recalled}, err == nil, err
}

// NoteMessages implements [notify.Store].
func (s notifyStore) NoteMessages(ctx context.Context, notes []notify.Note, due time.Time) error {
	all := make([]store.Note, len(notes))
	for i, n := range notes {
		all[i] = store.Note(n)
	}
	return s.storeBackend.NoteMessages(ctx, all, due)
}

// TakeNotifications implements [notify.Store].
func (s notifyStore) TakeNotifications(ctx context.Context, now, until time.Time, limit int) ([]notify.Notification, error) {
	taken, err := s.storeBackend.TakeNotifications(ctx, now, until, limit)
	all := make([]notify.Notification, len(taken))
	for i, n := range taken {
		all[i] = notify.Notification{Note: notify.Note(n.Note), Target: n.Target, Count: n.Count, Attempts: n.Attempts, Due: n.Due}
	}
	return all, err
}

// SettleNotification implements [notify.Store].
func (s notifyStore) SettleNotification(
	ctx context.Context, n notify.Notification, told int, next time.Time, repeats []notify.Notification,
) error {
	stored := func(n notify.Notification) store.Notification {
		return store.Notification{Note: store.Note(n.Note), Target: n.Target, Count: n.Count, Attempts: n.Attempts, Due: n.Due}
	}
	all := make([]store.Notification, len(repeats))
	for i, r := range repeats {
		all[i] = stored(r)
	}
	return s.storeBackend.SettleNotification(ctx, stored(n), told, next, all)
}

// notifyConfig returns what the configuration says of notifications. Its error names the settings that are wrong and shows no
// key.
func notifyConfig(cfg *config.Config) (notify.Config, error) {
	c := notify.Config{
		Window: cfg.NotifyWindow, MaxAge: cfg.NotifyMaxAge, Preview: cfg.NotifyContent, GroupLimit: cfg.NotifyGroupLimit,
		Subject: cfg.VAPIDSubject, AllowPrivate: cfg.NotifyAllowPrivate,
	}
	var faults []error
	fault := func(flag string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s (--%s): %w", config.EnvName(flag), flag, err))
		}
	}
	var err error
	c.Quiet, err = notify.ParseQuiet(cfg.NotifyQuiet)
	fault("notify-quiet", err)
	if cfg.VAPIDKey != "" {
		c.Keys, err = notify.ParseKeys(cfg.VAPIDKey)
		fault("vapid-key", err)
	}
	if cfg.NotifyWebhooks != "" {
		c.Endpoints, err = webhook.ReadFile(cfg.NotifyWebhooks)
		fault("notify-webhooks", err)
	}
	for i := range c.Endpoints {
		if e := &c.Endpoints[i]; len(e.Types) > 0 || len(e.Notify) > 0 {
			fault("notify-webhooks", fmt.Errorf("%s: an endpoint of notifications gets all of them: want no types and no notify", e.Name))
		}
		// The store keeps which endpoints are disabled by their names, those of the webhook handler too.
		c.Endpoints[i].Name = notify.Name + "-" + c.Endpoints[i].Name
	}
	return c, errors.Join(faults...)
}
