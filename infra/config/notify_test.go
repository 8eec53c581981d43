package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNotificationsNeedATargetAndAContact(t *testing.T) {
	c, err := load(t, Worker, "--kafka-brokers=a:1", "--handlers=notify", "--vapid-key=secret", "--vapid-subject=mailto:ops@example.com")
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, c.NotifyWindow)
	require.Equal(t, time.Hour, c.NotifyMaxAge)
	require.False(t, c.NotifyContent)
	_, err = load(t, Worker, "--kafka-brokers=a:1", "--handlers=notify", "--notify-webhooks=file")
	require.NoError(t, err)
	for want, args := range map[string][]string{
		"MILLRACE_VAPID_KEY (--vapid-key): set this or MILLRACE_NOTIFY_WEBHOOKS": {"--handlers=notify"},
		"MILLRACE_VAPID_SUBJECT":      {"--handlers=notify", "--vapid-key=sesame"},
		"MILLRACE_VAPID_SUBJECT ":     {"--handlers=audit", "--vapid-key=sesame", "--vapid-subject=ops@example.com"},
		"MILLRACE_VAPID_SUBJECT (":    {"--handlers=audit", "--vapid-key=sesame", "--vapid-subject=mailto:nobody"},
		"MILLRACE_VAPID_SUBJECT (-":   {"--handlers=audit", "--vapid-key=sesame", "--vapid-subject=http://example.com"},
		"MILLRACE_NOTIFY_WINDOW":      {"--handlers=audit", "--notify-window=10ms"},
		"MILLRACE_NOTIFY_MAX_AGE":     {"--handlers=audit", "--notify-window=2h"},
		"MILLRACE_NOTIFY_GROUP_LIMIT": {"--handlers=audit", "--notify-group-limit=-1"},
	} {
		_, err := load(t, Worker, append(args, "--kafka-brokers=a:1")...)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "sesame")
	}
}
