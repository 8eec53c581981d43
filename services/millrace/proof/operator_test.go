package proof

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/client"
)

// operators calls one message node after the other, until one accepts.
type operators struct {
	nodes []millracev1.OperatorServiceClient
}

func (c *cluster) operators(t *testing.T) *operators {
	t.Helper()
	o := &operators{}
	for _, address := range c.messages {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		o.nodes = append(o.nodes, millracev1.NewOperatorServiceClient(conn))
	}
	return o
}

func (o *operators) insist(t *testing.T, call func(context.Context, millracev1.OperatorServiceClient) error) {
	t.Helper()
	i := 0
	Await(t, func() bool {
		i++
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return call(ctx, o.nodes[i%len(o.nodes)]) == nil
	}, "accepted")
}

// Notices are sent while a message node, which is a push node too, is killed and comes back. Whoever is online on any gateway
// gets each notice once. Tokens that are revoked then stay revoked, whatever is killed after that.
func TestNoticesAndRevocationsReachAllGatewaysWhateverIsKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	o := c.operators(t)
	users := []*User{Join(t, c.gateways[0], Alice, nil), Join(t, c.gateways[1], Alice, nil), Join(t, c.gateways[1], Bob, nil)}
	const each = 30
	sent := 0
	send := func() {
		for range each {
			id := fmt.Sprint(sent)
			o.insist(t, func(ctx context.Context, node millracev1.OperatorServiceClient) error {
				_, err := node.SendNotice(ctx, &millracev1.SendNoticeRequest{NoticeId: id, Content: id})
				return err
			})
			sent++
		}
	}
	send()
	p := c.named("message-1")
	p.kill()
	send()
	p.start(t)
	send()
	p.awaitReady(t)
	send()
	for _, u := range users {
		seen := map[string]bool{}
		for len(seen) < sent {
			id := u.Sees(t, "system_notice").NoticeID
			require.False(t, seen[id], id)
			seen[id] = true
		}
	}

	before := time.Now().Unix() + 30 // so that no new token is valid meanwhile
	o.insist(t, func(ctx context.Context, node millracev1.OperatorServiceClient) error {
		_, err := node.RevokeTokens(ctx, &millracev1.RevokeTokensRequest{User: Alice, Before: before})
		return err
	})
	for _, u := range users[:2] {
		<-u.Done()
		require.ErrorIs(t, u.Err(), client.ErrRefused)
	}
	for _, name := range []string{"message-1", "message-2", "connect-1"} {
		p := c.named(name)
		p.kill()
		p.start(t)
	}
	for _, name := range []string{"message-1", "message-2", "connect-1"} {
		c.named(name).awaitReady(t)
	}
	_, err := client.Dial(t.Context(), client.Config{URL: c.gateways[0], Token: Token(Alice)})
	require.ErrorIs(t, err, &client.Error{Code: client.Unauthenticated})
	require.Equal(t, []int64{Bob}, users[2].Online(t, Alice, Bob))
	require.NoError(t, users[2].Close())
	c.stopAll()
}
