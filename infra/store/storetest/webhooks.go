package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func webhookTests() []test {
	const url, other = "https://example.com/hook", "https://example.com/other"
	disabled := func(t *testing.T, s Store, name, url string) bool {
		t.Helper()
		is, err := s.WebhookDisabled(t.Context(), name, url)
		require.NoError(t, err)
		return is
	}
	return []test{
		{"an endpoint is disabled at its URL until it is enabled", func(t *testing.T, s Store) {
			require.False(t, disabled(t, s, "crm", url))
			for range 2 {
				require.NoError(t, s.DisableWebhook(t.Context(), "crm", url))
				require.True(t, disabled(t, s, "crm", url))
			}
			require.False(t, disabled(t, s, "crm", other), "at another URL it is another endpoint")
			require.False(t, disabled(t, s, "bi", url))
			was, err := s.EnableWebhook(t.Context(), "crm")
			require.NoError(t, err)
			require.True(t, was)
			require.False(t, disabled(t, s, "crm", url))
			was, err = s.EnableWebhook(t.Context(), "crm")
			require.NoError(t, err)
			require.False(t, was)
		}},
		{"an endpoint that was disabled is disabled at its new URL", func(t *testing.T, s Store) {
			require.NoError(t, s.DisableWebhook(t.Context(), "crm", url))
			require.NoError(t, s.DisableWebhook(t.Context(), "crm", other))
			require.True(t, disabled(t, s, "crm", other))
			require.False(t, disabled(t, s, "crm", url))
		}},
	}
}
