package main

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/pubsub"
	apiv1 "millrace/proto/millrace/api/v1"
	"millrace/services/client"
	"millrace/services/message"
	"millrace/services/millrace/proof"
)

// A user is erased, and then storage loses its messages and reads the whole log again.
func TestEndToEndAnErasedUserStaysErasedWhereTheLogIsStoredAgain(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	group, err := a.Group(t.Context(), client.GroupCreate{Name: "her name for it", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	room := events.Group(group.GroupID)
	direct := a.Sends(t, client.ToUser(proof.Bob), "confidential").Conversation
	b.Sends(t, client.ToUser(proof.Alice), "an answer")
	a.Sends(t, client.ToGroup(group.GroupID), "confidential as well")
	eventually(t, b, direct, 2)
	eventually(t, b, room, 1)

	out, err := run(t, "erase", "--user=1001", "--message-addrs="+d.grpc.Addr())
	require.NoError(t, err)
	require.Equal(t, "erased: user 1001, 2 messages\n", out)
	requireErased := func(d *dev, b *proof.User, more ...string) {
		t.Helper()
		require.Equal(t, append([]string{"", "an answer"}, more...), contents(eventually(t, b, direct, 2+len(more))))
		page := eventually(t, b, room, 1)
		require.True(t, page[0].Recalled)
		require.Equal(t, []string{""}, contents(page))
		require.NotContains(t, d.exports(t, proof.Alice), "confidential")
		var of apiv1.GetGroupResponse
		d.asks(t, 200, "GET", "/v1/groups/"+room[2:]+"?user=1002", "", &of)
		require.Empty(t, of.GetGroup().GetName())
		require.Len(t, of.GetGroup().GetMembers(), 2)
	}
	requireErased(d, b)
	a.Sends(t, client.ToUser(proof.Bob), "she is back")
	requireErased(d, b, "she is back")

	d.stop()
	file, err := sql.Open("sqlite", filepath.Join(dir, storeFile))
	require.NoError(t, err)
	for _, loss := range []string{
		`DELETE FROM messages`, `DELETE FROM changes`, `DELETE FROM groups`, `DELETE FROM stays`, `UPDATE positions SET seq = 0`,
	} {
		_, err := file.ExecContext(t.Context(), loss)
		require.NoError(t, err)
	}
	require.NoError(t, file.Close())

	var log pubsub.Bus
	var store message.Store
	d = startDevWith(t, dir, fx.Populate(&log, &store))
	awaitStored(t, log, store)
	b = proof.Join(t, d.url(), proof.Bob, nil)
	requireErased(d, b, "she is back")
	var erased apiv1.EraseUserResponse
	d.asks(t, 200, "POST", "/v1/users/1001:erase", `{}`, &erased)
	require.EqualValues(t, 1, erased.GetMessages(), "what came after the erasure")
	requireErased(d, b, "")
}

func TestEraseSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"required flag":          {},
		"a user id is from 1 to": {"--user=0"},
		"invalid argument":       {"--user=Alice"},
	} {
		_, err := run(t, append([]string{"erase"}, args...)...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitUsage, exitCode(err), want)
	}
}
