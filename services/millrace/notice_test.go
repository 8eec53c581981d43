package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"millrace/events"
	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func (d *dev) operator(t *testing.T) millracev1.OperatorServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(d.grpc.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return millracev1.NewOperatorServiceClient(conn)
}

// dialWith connects with the tokens of the identity, which are issued when it says so. Nobody reads the pushes.
func dialWith(t *testing.T, url string, id auth.Identity) (*client.Client, error) {
	t.Helper()
	id.Expires = time.Now().Add(time.Hour)
	c, err := client.Dial(t.Context(), client.Config{URL: url, Token: func(context.Context) (string, error) {
		return auth.Sign(proof.Secret, id)
	}})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func TestEndToEndNoticeReachesWhoIsOnlineOnEveryGateway(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	url := startSecondGateway(t, d)
	phone, laptop, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, url, proof.Alice, nil), proof.Join(t, url, proof.Bob, nil)
	send := func(args ...string) string {
		out, err := run(t, append([]string{"notice", "--message-addrs=" + d.grpc.Addr()}, args...)...)
		require.NoError(t, err)
		return strings.TrimSpace(out)
	}
	id := send("--content=to all", `--extra={"level":"warning"}`)
	for _, u := range []*proof.User{phone, laptop, b} {
		push := u.Sees(t, "system_notice")
		require.Equal(t, id, push.NoticeID)
		require.Equal(t, "to all", push.Content)
		require.JSONEq(t, `{"level":"warning"}`, string(push.Extra))
		require.Empty(t, push.Pos)
	}
	require.Equal(t, id, send("--content=to all, again", "--id="+id))
	send("--content=to the region", "--region=eu")
	send("--content=to Alice", "--users=1001,1009", "--id=a")
	send("--content=to both", "--users=1002,1001", "--id=b")
	for _, u := range []*proof.User{phone, laptop} { // notices have no order among them
		got := []string{u.Sees(t, "system_notice").NoticeID, u.Sees(t, "system_notice").NoticeID}
		require.ElementsMatch(t, []string{"a", "b"}, got)
	}
	require.Equal(t, "b", b.Sees(t, "system_notice").NoticeID)
	late := proof.Join(t, url, proof.Carol, nil)
	late.Sends(t, client.ToUser(proof.Carol), "only this")
	require.EqualValues(t, events.NewMessage, (<-late.Seen()).Type)
}

func TestNoticeSaysWhatIsWrong(t *testing.T) {
	besideOthers(t)
	node := startDev(t, t.TempDir()).grpc.Addr()
	for want, args := range map[string][]string{
		"required flag":      {},
		"no content":         {"--content="},
		"want a JSON object": {"--content=x", "--extra=[]"},
		"user 0":             {"--content=x", "--users=0"},
		`parsing "Alice"`:    {"--content=x", "--users=Alice"},
		`parsing ""`:         {"--content=x", "--users="},
		"want either users":  {"--content=x", "--users=1", "--region=eu"},
		"notice_id of 65":    {"--content=x", "--id=" + strings.Repeat("n", 65)},
	} {
		_, err := run(t, append([]string{"notice", "--message-addrs=" + node}, args...)...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitUsage, exitCode(err), want)
	}
}

func TestEndToEndRevokedTokensAreRefusedOnAllGatewaysAlsoAfterARestart(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	url := startSecondGateway(t, d)
	hourAgo := time.Now().Add(-time.Hour)
	old := auth.Identity{User: proof.Alice, Issued: hourAgo}
	here, err := dialWith(t, d.url(), old)
	require.NoError(t, err)
	there, err := dialWith(t, url, old)
	require.NoError(t, err)
	fresh, err := dialWith(t, url, auth.Identity{User: proof.Alice})
	require.NoError(t, err)
	revoke := func(args ...string) (string, error) {
		return run(t, append([]string{"token", "revoke", "--message-addrs=" + d.grpc.Addr()}, args...)...)
	}
	out, err := revoke("--user=1001", "--before=2h")
	require.NoError(t, err)
	require.Contains(t, out, "revoked: tokens of user 1001 issued before ")
	require.NoError(t, here.Do(t.Context(), client.Ping{}), "its token is younger")
	out, err = revoke("--user=1001", "--before="+time.Now().Add(-time.Minute).Format(time.RFC3339))
	require.NoError(t, err)
	for _, c := range []*client.Client{here, there} {
		<-c.Done()
		require.ErrorIs(t, c.Err(), client.ErrRefused, "it has no other token")
	}
	refused := func(d *dev) {
		t.Helper()
		for _, at := range []string{d.url(), url} {
			_, err := dialWith(t, at, old)
			require.ErrorIs(t, err, &client.Error{Code: client.Unauthenticated})
		}
	}
	refused(d)
	token, err := auth.Sign(proof.Secret, auth.Identity{User: proof.Alice, Issued: hourAgo, Expires: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.ErrorIs(t, fresh.Do(t.Context(), client.Refresh{Token: token}), &client.Error{Code: client.Unauthenticated})
	require.NoError(t, fresh.Do(t.Context(), client.Ping{}))
	_, err = dialWith(t, url, auth.Identity{User: proof.Bob, Issued: hourAgo})
	require.NoError(t, err)

	for want, args := range map[string][]string{
		"required flag":       {},
		"a user id is from":   {"--user=0"},
		"want a duration":     {"--user=1", "--before=yesterday"},
		"lies ahead":          {"--user=1", "--before=2999-01-01T00:00Z"},
		"before -62135596799": {"--user=1", "--before=0001-01-01T00:00:01Z"},
	} {
		_, err := revoke(args...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitUsage, exitCode(err), want)
	}
	require.NotEmpty(t, out)
	d.stop()
	d = startDev(t, dir)
	url = startSecondGateway(t, d)
	refused(d)
}
