package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// Alice and Bob are on two gateways that ask two message nodes.
func TestEndToEndBlockedUserNeitherWritesNorTypesNorSeesWhoBlocks(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	var node *grpcServer
	t.Cleanup(startInside(t, config.Message, fx.Populate(&node), "--data-dir="+dir, "--kafka-brokers="+strings.Join(d.brokers, ","),
		"--message-addr=127.0.0.1:0", "--handlers=users"))
	var gateway *gatewayServer
	t.Cleanup(startInside(t, config.Connect, fx.Populate(&gateway), "--jwt-secret="+proof.Secret,
		"--connect-addr=127.0.0.1:0", "--message-addrs="+node.Addr(), "--push-addrs="+d.grpc.Addr()))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, "ws://"+gateway.Addr()+"/ws", proof.Bob, nil)
	ctx := t.Context()
	write := func(u *proof.User, to int64) error {
		_, err := u.Send(ctx, client.Send{Target: client.ToUser(to), Content: "hello"})
		return err
	}
	denied := &client.Error{Code: client.PermissionDenied}
	sent := b.Sends(t, client.ToUser(proof.Alice), "hello")
	a.Sees(t, "new_message")
	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	require.Equal(t, []int64{proof.Alice, proof.Bob}, b.Online(t, proof.Alice, proof.Bob))

	for range 2 { // repeated
		require.NoError(t, a.Do(ctx, client.Block{User: proof.Bob}))
		require.ErrorIs(t, write(b, proof.Alice), denied)
	}
	require.ErrorIs(t, b.Do(ctx, client.Edit{Conversation: sent.Conversation, MessageID: sent.MessageID, Content: "hello!"}), denied)
	require.EqualValues(t, proof.Alice, b.Sees(t, "user_offline").User)
	require.Empty(t, b.Online(t, proof.Alice))
	present, err := b.Presence(ctx, proof.Alice)
	require.NoError(t, err)
	require.Empty(t, present.LastSeen)
	require.Eventually(t, func() bool {
		return errors.Is(b.Do(ctx, client.Typing{Target: client.ToUser(proof.Alice)}), denied)
	}, proof.Patience, time.Second/40) // a user may type 50 times a second
	require.ErrorIs(t, b.Do(ctx, client.Typing{Target: client.ToUser(proof.Alice)}), denied)
	blocked, err := a.Blocked(ctx)
	require.NoError(t, err)
	require.Equal(t, []int64{proof.Bob}, blocked)

	// Who blocks may write, and groups are unaffected.
	require.NoError(t, write(a, proof.Bob))
	require.Equal(t, []int64{proof.Bob}, a.Online(t, proof.Bob))
	b.Sends(t, client.ToGroup(group.GroupID), "hello all")
	var got []string
	for range 2 { // two partitions
		m := a.Sees(t, "new_message").Message
		got = append(got, fmt.Sprint(m.From, " ", m.Content))
	}
	require.ElementsMatch(t, []string{"1001 hello", "1002 hello all"}, got, "and none of Bob's to Alice alone")
	require.NoError(t, b.Do(ctx, client.Typing{Target: client.ToGroup(group.GroupID)}))
	typing := a.Sees(t, "typing")
	for typing.GroupID == 0 { // from before the signal had come
		typing = a.Sees(t, "typing")
	}

	require.NoError(t, a.Do(ctx, client.Unblock{User: proof.Bob}))
	require.NoError(t, write(b, proof.Alice))
	require.EqualValues(t, proof.Alice, b.Sees(t, "user_online").User)
	blocked, err = a.Blocked(ctx)
	require.NoError(t, err)
	require.Empty(t, blocked)
	for _, user := range []int64{0, proof.Alice, events.MaxID + 1} {
		require.ErrorIs(t, a.Do(ctx, client.Block{User: user}), &client.Error{Code: client.InvalidArgument})
		require.ErrorIs(t, a.Do(ctx, client.Unblock{User: user}), &client.Error{Code: client.InvalidArgument})
	}
}

// A block is kept by the store: it holds after everything was started again.
func TestEndToEndBlockOutlivesARestart(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a := proof.Join(t, d.url(), proof.Alice, nil)
	for _, r := range []client.Request{client.Block{User: proof.Bob}, client.Unblock{User: proof.Bob}, client.Block{User: proof.Bob}} {
		require.NoError(t, a.Do(t.Context(), r))
	}
	for _, r := range consume(t, d.brokers, events.TopicUsers, count(t, d.brokers, events.TopicUsers)) {
		if strings.Contains(string(r.Value), "blocked") {
			require.Equal(t, "1001", string(r.Key))
		}
	}
	require.NoError(t, a.Close())
	d.stop()

	d = startDev(t, dir)
	b := proof.Join(t, d.url(), proof.Bob, nil)
	_, err := b.Send(context.WithoutCancel(t.Context()), client.Send{Target: client.ToUser(proof.Alice), Content: "hello"})
	require.ErrorIs(t, err, &client.Error{Code: client.PermissionDenied})
}
