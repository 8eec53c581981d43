package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The golden files fix the contract, because other programs read and write this JSON.
var update = flag.Bool("update", false, "write the golden files anew")

const (
	alice = 1001
	bob   = 1002
	group = 77
	when  = 1642678800
)

func samples() map[string]Event {
	direct := Message{
		MessageID: "X5hbZ0vFqmX6nRzUuJmN0g", ClientMsgID: "9f", Conversation: Direct(alice, bob), From: alice, To: bob,
		Content: "hello", MessageType: 1, Timestamp: when,
	}
	answer := direct
	answer.Extra, answer.ReplyTo, answer.Mentions = Extra(`{"color":"<ünïcode>","size":1.50}`), "b2Jq3rNnQ5uZc0m1x9aYwA", []int64{bob, 1003}
	toGroup := direct
	toGroup.Conversation, toGroup.To, toGroup.GroupID, toGroup.Content = Group(group), 0, group, "<\"ünïcode\"> & more"
	return map[string]Event{
		"new_message":        {Type: NewMessage, Message: &direct, Timestamp: when},
		"new_message_group":  {Type: NewMessage, Message: &toGroup, Timestamp: when},
		"new_message_answer": {Type: NewMessage, Message: &answer, Timestamp: when},
		"message_edited_extra": {
			Type: MessageEdited, EventID: "e9", Conversation: direct.Conversation, MessageID: direct.MessageID, MessageSeq: 349,
			By: alice, Content: "hello again", Extra: Extra(`{"color":"red"}`), Timestamp: when,
		},
		"message_edited": {
			Type: MessageEdited, EventID: "e1", Conversation: direct.Conversation, MessageID: direct.MessageID, MessageSeq: 349,
			By: alice, Content: "hello again", Timestamp: when,
		},
		"message_recalled": {
			Type: MessageRecalled, EventID: "e2", Conversation: direct.Conversation, MessageID: direct.MessageID, MessageSeq: 349,
			By: alice, Timestamp: when,
		},
		"message_recalled_moderated": {
			Type: MessageRecalled, EventID: "e12", Conversation: direct.Conversation, MessageID: direct.MessageID, MessageSeq: 349,
			Reason: "no advertising", Timestamp: when,
		},
		"message_moderated": {
			Type: MessageModerated, EventID: "e13", Conversation: direct.Conversation, MessageID: direct.MessageID, MessageSeq: 349,
			User: alice, Reason: "no advertising", Timestamp: when,
		},
		"message_read": {
			Type: MessageRead, EventID: "e3", Conversation: direct.Conversation, User: bob, MessageSeq: 349, Timestamp: when,
		},
		"message_read_group": {
			Type: MessageRead, EventID: "e4", Conversation: Group(group), User: bob, MessageSeq: 349, Timestamp: when,
		},
		"group_created": {
			Type: GroupCreated, EventID: "e5", Conversation: Group(group), GroupID: group, User: alice, By: alice, Name: "friends",
			Members: []int64{alice, bob}, Join: JoinOpen, ClientMsgID: "c1", Timestamp: when,
		},
		"member_joined": {
			Type: MemberJoined, EventID: "e6", Conversation: Group(group), GroupID: group, User: bob, By: alice, Timestamp: when,
		},
		"member_left": {
			Type: MemberLeft, EventID: "e7", Conversation: Group(group), GroupID: group, User: bob, By: bob, Timestamp: when,
		},
		"group_renamed": {
			Type: GroupRenamed, EventID: "e10", Conversation: Group(group), GroupID: group, By: alice, Name: "old friends", Timestamp: when,
		},
		"member_role": {
			Type: MemberRole, EventID: "e12", Conversation: Group(group), GroupID: group, User: bob, By: alice, Role: RoleAdmin,
			Timestamp: when,
		},
		"member_muted": {
			Type: MemberMuted, EventID: "e13", Conversation: Group(group), GroupID: group, User: bob, By: alice,
			Until: new(int64(when + 600)), Timestamp: when,
		},
		"member_muted_all": {
			Type: MemberMuted, EventID: "e14", Conversation: Group(group), GroupID: group, By: alice, Until: new(int64(0)), Timestamp: when,
		},
		"conversation_settings": {
			Type: ConversationSettings, EventID: "e11", Conversation: Group(group), User: bob,
			Settings: Settings{MutedUntil: new(int64(when)), Pinned: new(true), Hidden: new(false)}, Timestamp: when,
		},
		"group_dissolved": {
			Type: GroupDissolved, EventID: "e8", Conversation: Group(group), GroupID: group, User: alice, By: alice, Timestamp: when,
		},
	}
}

// userSamples are the events on user-events.
func userSamples() map[string]Event {
	return map[string]Event{
		"user_online":    {Type: UserOnline, EventID: "e9", User: alice, Timestamp: when},
		"user_offline":   {Type: UserOffline, EventID: "e10", User: alice, Timestamp: when},
		"user_blocked":   {Type: UserBlocked, EventID: "e11", User: bob, By: alice, Timestamp: when},
		"user_unblocked": {Type: UserUnblocked, EventID: "e12", User: bob, By: alice, Timestamp: when},
		"tokens_revoked": {Type: TokensRevoked, EventID: "e13", User: alice, Before: when, Timestamp: when},
	}
}

// noticeSamples are the events on system-events that clients get.
func noticeSamples() map[string]Event {
	notice := Event{Type: SystemNotice, EventID: "e14", NoticeID: "maintenance-7", Content: "down from 22:00 to 22:10", Timestamp: when}
	toUsers, toRegion := notice, notice
	toUsers.Extra, toUsers.To = Extra(`{"level":"warning"}`), &Audience{Users: []int64{alice, bob}}
	toRegion.To = &Audience{UserType: "vip", Region: "eu"}
	return map[string]Event{"system_notice": notice, "system_notice_users": toUsers, "system_notice_region": toRegion}
}

// systemSamples are the events on system-events.
func systemSamples() map[string]Event {
	call := Call{Key: "ops", Method: "/millrace.api.v1.OperatorService/DisconnectUser", Target: map[string]string{"user": "1001", "device": "web-1"}}
	all := noticeSamples()
	all["operator_called"] = Event{Type: OperatorCalled, EventID: "e15", Call: &call, Timestamp: when}
	return all
}

func TestEventsLookOnTheTopicAsByContract(t *testing.T) {
	for topic, events := range map[string]map[string]Event{TopicMessages: samples(), TopicUsers: userSamples(), TopicSystem: systemSamples()} {
		for name, event := range events {
			t.Run(name, func(t *testing.T) {
				data, err := Encode(&event)
				require.NoError(t, err)
				want := golden(t, filepath.Join("testdata", "event", name+".json"), data)

				got, err := Decode(topic, Position{Partition: 3, Seq: 350}, want)
				require.NoError(t, err)
				if event.Type == NewMessage {
					event.EventID = event.Message.MessageID
				}
				require.Equal(t, event, got)
			})
		}
	}
}

func TestPushesLookAsByContract(t *testing.T) {
	for name, event := range samples() {
		t.Run(name, func(t *testing.T) {
			d, err := DeliveryOf(&Record{Event: event, Position: Position{Partition: 12, Seq: 350}})
			require.NoError(t, err)
			golden(t, filepath.Join("testdata", "push", name+".json"), d.Push)
		})
	}
	for name, event := range noticeSamples() {
		t.Run(name, func(t *testing.T) {
			n, err := NoticeOf(&event)
			require.NoError(t, err)
			golden(t, filepath.Join("testdata", "push", name+".json"), n.GetPush())
		})
	}
}

// golden compares got with the file, which is indented so that people can read it.
func golden(t *testing.T, file string, got []byte) []byte {
	t.Helper()
	if *update {
		var indented bytes.Buffer
		require.NoError(t, json.Indent(&indented, got, "", "  "))
		indented.WriteByte('\n')
		require.NoError(t, os.WriteFile(file, indented.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, want))
	require.Equal(t, compact.String(), string(got))
	return compact.Bytes()
}
