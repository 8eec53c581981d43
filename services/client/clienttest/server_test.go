package clienttest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
)

func TestFakeServerKeepsItsPromises(t *testing.T) {
	f := New(t)
	c, err := client.Dial(t.Context(), client.Config{URL: f.WebSocket(), Token: client.TokenSource{URL: f.WebSocket()}.Of(1)})
	require.NoError(t, err)
	_, err = c.Send(t.Context(), client.Send{Target: client.ToUser(2), Content: "hello"})
	require.NoError(t, err)
	page, err := c.History(t.Context(), client.History{Conversation: "u:1:2"})
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	require.NoError(t, c.Close())
}
