package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// startSecondGateway runs another gateway of the system until the test ends and returns its URL.
func startSecondGateway(t *testing.T, d *dev) string {
	t.Helper()
	var gateway *gatewayServer
	t.Cleanup(startInside(t, config.Connect, fx.Populate(&gateway), "--jwt-secret="+proof.Secret,
		"--connect-addr=127.0.0.1:0", "--message-addrs="+d.grpc.Addr()))
	return "ws://" + gateway.Addr() + "/ws"
}

func TestEndToEndExtraReplyAndMentionsReachEverybodyAndHistory(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, startSecondGateway(t, d), proof.Bob, nil)
	ctx, cursor := t.Context(), b.Cursor()

	first := a.Sends(t, client.ToUser(proof.Bob), "hello")
	answer := client.Send{
		Target: client.ToUser(proof.Alice), Content: "hi", Extra: events.Extra(`{"n":1.50,"s":"ü"}`), ReplyTo: first.MessageID,
		Mentions: []int64{proof.Alice, proof.Carol},
	}
	sent, err := b.Send(ctx, answer)
	require.NoError(t, err)
	for _, u := range []*proof.User{a, b} {
		require.Empty(t, u.Sees(t, "new_message").Message.Extra)
		m := u.Sees(t, "new_message").Message
		require.Equal(t, string(answer.Extra), string(m.Extra))
		require.Equal(t, answer.ReplyTo, m.ReplyTo)
		require.Equal(t, answer.Mentions, m.Mentions)
	}

	edit := func(content string, extra events.Extra) {
		require.NoError(t, b.Do(ctx, client.Edit{
			Conversation: sent.Conversation, MessageID: sent.MessageID, Content: content, Extra: extra,
		}))
	}
	edit("hi!", events.Extra(`{"n":2}`))
	edit("hi!!", nil)
	for _, want := range []string{"hi!", "hi!!"} {
		edited := a.Sees(t, "message_edited")
		require.Equal(t, want, edited.Content)
		require.JSONEq(t, `{"n":2}`, string(edited.Extra))
	}
	stored := eventually(t, a, sent.Conversation, 2)[1]
	require.JSONEq(t, `{"n":2}`, string(stored.Extra))
	require.Equal(t, answer.ReplyTo, stored.ReplyTo)
	require.Equal(t, answer.Mentions, stored.Mentions)

	require.NoError(t, b.Close())
	back := proof.Join(t, d.url(), proof.Bob, cursor)
	require.Equal(t, "hello", back.Sees(t, "new_message").Message.Content)
	require.JSONEq(t, `{"n":2}`, string(back.Sees(t, "new_message").Message.Extra))

	for _, bad := range []client.Send{
		{Extra: events.Extra(`[]`)}, {Mentions: []int64{-1}}, {ReplyTo: string(make([]byte, 65))},
	} {
		bad.Target, bad.Content = client.ToUser(proof.Bob), "x"
		_, err := a.Send(ctx, bad)
		require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
	}
}

func TestEndToEndGroupIsRenamedAndDissolvedForEverybody(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, startSecondGateway(t, d), proof.Bob, nil)
	ctx, cursor := t.Context(), b.Cursor()
	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	for _, r := range []client.Request{
		client.GroupRename{GroupID: group.GroupID, Name: "mine"}, client.GroupDissolve{GroupID: group.GroupID},
	} {
		_, err := b.Group(ctx, r)
		require.ErrorIs(t, err, &client.Error{Code: client.PermissionDenied})
	}
	_, err = a.Group(ctx, client.GroupRename{GroupID: group.GroupID})
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})

	renamed, err := a.Group(ctx, client.GroupRename{GroupID: group.GroupID, Name: "old friends"})
	require.NoError(t, err)
	require.Equal(t, "old friends", renamed.Name)
	info, err := b.Group(ctx, client.GroupInfo{GroupID: group.GroupID})
	require.NoError(t, err)
	require.Equal(t, renamed, info)
	_, err = a.Group(ctx, client.GroupDissolve{GroupID: group.GroupID})
	require.NoError(t, err)
	_, err = b.Send(ctx, client.Send{Target: client.ToGroup(group.GroupID), Content: "hello?"})
	require.ErrorIs(t, err, &client.Error{Code: client.NotFound})

	require.NoError(t, b.Close())
	for _, u := range []*proof.User{a, b, proof.Join(t, d.url(), proof.Bob, cursor)} {
		push := u.Sees(t, "group_renamed")
		require.Equal(t, "old friends", push.Name)
		require.Equal(t, group.GroupID, push.GroupID)
		require.EqualValues(t, proof.Alice, push.By)
		require.NotEmpty(t, push.Pos)
		require.Equal(t, group.GroupID, u.Sees(t, "group_dissolved").GroupID)
	}
}

func TestEndToEndWhoHasReadIsTold(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, startSecondGateway(t, d), proof.Bob, nil)
	ctx := t.Context()
	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob, proof.Carol}})
	require.NoError(t, err)
	a.Sends(t, client.ToGroup(group.GroupID), "hello")
	seq := b.Sees(t, "new_message").Seq
	ask := client.Readers{Conversation: events.Group(group.GroupID), Seq: seq}
	readers, err := a.Readers(ctx, ask)
	require.NoError(t, err)
	require.Empty(t, readers)
	require.NoError(t, b.Do(ctx, client.Read{Conversation: ask.Conversation, Seq: seq}))
	readers, err = a.Readers(ctx, ask)
	require.NoError(t, err)
	require.Equal(t, []client.Reader{{User: proof.Bob, Seq: seq}}, readers)

	_, err = a.Readers(ctx, client.Readers{Conversation: ask.Conversation})
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
	_, err = a.Readers(ctx, client.Readers{Conversation: "u:1002:1003", Seq: 1})
	require.ErrorIs(t, err, &client.Error{Code: client.PermissionDenied})
}

func TestEndToEndSettingsReachTheUsersOtherDevicesAndItsListAlone(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	url := startSecondGateway(t, d)
	a, b, other := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil), proof.Join(t, url, proof.Bob, nil)
	ctx, cursor := t.Context(), b.Cursor()
	name := a.Sends(t, client.ToUser(proof.Bob), "hello").Conversation
	set := func(s events.Settings) error { return b.Do(ctx, client.Settings{Conversation: name, Settings: s}) }
	head := func(u *proof.User) client.Conversation {
		page, err := u.Conversations(ctx, client.Conversations{})
		require.NoError(t, err)
		require.Len(t, page.Conversations, 1)
		return page.Conversations[0]
	}
	require.NoError(t, set(events.Settings{MutedUntil: new(int64(9_999_999_999)), Pinned: new(true), Hidden: new(true)}))
	push := other.Sees(t, "settings_changed")
	require.Equal(t, name, push.Conversation)
	require.EqualValues(t, 9_999_999_999, *push.MutedUntil)
	require.True(t, *push.Pinned)
	require.True(t, *push.Hidden)
	require.Empty(t, push.Pos)
	require.True(t, head(other).Hidden)
	require.EqualValues(t, 9_999_999_999, head(other).MutedUntil)
	require.False(t, head(a).Pinned)

	a.Sends(t, client.ToUser(proof.Bob), "again")
	require.False(t, head(b).Hidden)
	require.True(t, head(b).Pinned)
	require.ErrorIs(t, set(events.Settings{}), &client.Error{Code: client.InvalidArgument})
	require.ErrorIs(t, a.Do(ctx, client.Settings{Conversation: "u:1002:1003", Settings: events.Settings{Pinned: new(true)}}),
		&client.Error{Code: client.PermissionDenied})

	// Neither who comes back nor the other user is told.
	require.NoError(t, b.Close())
	back := proof.Join(t, url, proof.Bob, cursor)
	a.Sends(t, client.ToUser(proof.Bob), "last")
	for _, u := range []*proof.User{a, back} {
		for range 3 {
			require.EqualValues(t, "new_message", (<-u.Seen()).Type)
		}
	}
}
