package client

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func TestTextThatIsNotUTF8IsNeverSentAsAnother(t *testing.T) {
	for _, r := range []Request{
		Send{Content: "caf\xe9"},
		Edit{Content: "\xff"},
		Connect{Token: "\xff"},
		GroupCreate{Name: "\xc3("},
		History{Conversation: "g:\xff"},
	} {
		_, err := Encode(1, r)
		require.ErrorIs(t, err, ErrNotUTF8, "%T", r)
	}
	for _, content := range []string{"\uFFFD", `\ufffd`, "café"} {
		_, err := Encode(1, Send{Content: content})
		require.NoError(t, err)
	}
}

func TestRequestsLookAsTheProtocolSays(t *testing.T) {
	zero := int64(0)
	for want, r := range map[string]Request{
		`{"id":7,"ping":{}}`:               Ping{},
		`{"id":7,"connect":{"token":"t"}}`: Connect{Token: "t"},
		`{"id":7,"connect":{"token":"t","device":"web-1","cursor":{"12":345}}}`:                         Connect{Token: "t", Device: "web-1", Cursor: Cursor{12: 345}},
		`{"id":7,"connect":{"token":"t","cursor":{}}}`:                                                  Connect{Token: "t", Cursor: Cursor{}},
		`{"id":7,"refresh":{"token":"t"}}`:                                                              Refresh{Token: "t"},
		`{"id":7,"send":{"to":1002,"content":"hello","client_msg_id":"9f"}}`:                            Send{Target: ToUser(1002), Content: "hello", ClientMsgID: "9f"},
		`{"id":7,"send":{"group_id":77,"content":"x","message_type":2}}`:                                Send{Target: ToGroup(77), Content: "x", MessageType: 2},
		`{"id":7,"history":{"conversation":"g:77","limit":50}}`:                                         History{Conversation: "g:77", Limit: 50},
		`{"id":7,"history":{"conversation":"g:77","before_seq":5}}`:                                     History{Conversation: "g:77", BeforeSeq: 5},
		`{"id":7,"history":{"conversation":"g:77","after_seq":0}}`:                                      History{Conversation: "g:77", AfterSeq: &zero},
		`{"id":7,"conversations":{"limit":3,"next":"n2"}}`:                                              Conversations{Limit: 3, Next: "n2"},
		`{"id":7,"conversations":{}}`:                                                                   Conversations{},
		`{"id":7,"read":{"conversation":"g:77","seq":5}}`:                                               Read{Conversation: "g:77", Seq: 5},
		`{"id":7,"settings":{"conversation":"g:77","hidden":false}}`:                                    Settings{"g:77", events.Settings{Hidden: new(false)}},
		`{"id":7,"readers":{"conversation":"g:77","seq":5}}`:                                            Readers{Conversation: "g:77", Seq: 5},
		`{"id":7,"recall":{"conversation":"g:77","message_id":"m"}}`:                                    Recall{Conversation: "g:77", MessageID: "m"},
		`{"id":7,"edit":{"conversation":"g:77","message_id":"m","content":"c"}}`:                        Edit{Conversation: "g:77", MessageID: "m", Content: "c"},
		`{"id":7,"push_subscribe":{"endpoint":"https://p.example/1","keys":{"p256dh":"k","auth":"a"}}}`: PushSubscribe{"https://p.example/1", PushKeys{"k", "a"}},
		`{"id":7,"push_unsubscribe":{"endpoint":"https://p.example/1"}}`:                                PushUnsubscribe{"https://p.example/1"},
		`{"id":7,"typing":{"to":1002}}`:                                                                 Typing{ToUser(1002)},
		`{"id":7,"presence":{"users":[1002]}}`:                                                          Presence{Users: []int64{1002}},
		`{"id":7,"group_create":{"name":"n","members":[1002],"client_msg_id":"9f"}}`:                    GroupCreate{Name: "n", Members: []int64{1002}, ClientMsgID: "9f"},
		`{"id":7,"group_info":{"group_id":77}}`:                                                         GroupInfo{GroupID: 77},
		`{"id":7,"group_join":{"group_id":77}}`:                                                         GroupJoin{GroupID: 77},
		`{"id":7,"group_leave":{"group_id":77}}`:                                                        GroupLeave{GroupID: 77},
		`{"id":7,"group_add":{"group_id":77,"user":1002}}`:                                              GroupAdd{GroupID: 77, User: 1002},
		`{"id":7,"group_rename":{"group_id":77,"name":"old friends"}}`:                                  GroupRename{GroupID: 77, Name: "old friends"},
		`{"id":7,"group_dissolve":{"group_id":77}}`:                                                     GroupDissolve{GroupID: 77},
		`{"id":7,"group_role":{"group_id":77,"user":1002,"role":"admin"}}`:                              GroupRole{GroupID: 77, User: 1002, Role: events.RoleAdmin},
		`{"id":7,"group_mute":{"group_id":77,"user":1002,"until":9}}`:                                   GroupMute{GroupID: 77, User: 1002, Until: 9},
		`{"id":7,"group_mute":{"group_id":77,"until":0}}`:                                               GroupMute{GroupID: 77},
		`{"id":7,"group_remove":{"group_id":77,"user":1002}}`:                                           GroupRemove{GroupID: 77, User: 1002},
		`{"id":7,"block":{"user":1002}}`:                                                                Block{User: 1002},
		`{"id":7,"unblock":{"user":1002}}`:                                                              Unblock{User: 1002},
		`{"id":7,"blocked":{}}`:                                                                         Blocked{},
	} {
		text, err := Encode(7, r)
		require.NoError(t, err)
		require.JSONEq(t, want, string(text))
	}
}

func TestCursorFollowsTheProtocolsRule(t *testing.T) {
	tests := []struct {
		name      string
		push      string
		cursor    Cursor
		violation string
	}{
		{"position", `{"type":"new_message","pos":"1:11","seq":11}`, Cursor{1: 11, 2: 20}, ""},
		{"of a partition not heard of", `{"type":"new_message","pos":"3:5","seq":5}`, Cursor{1: 10, 2: 20, 3: 5}, ""},
		{"of the event, not of its message", `{"type":"message_recalled","pos":"1:11","seq":4}`, Cursor{1: 11, 2: 20}, ""},
		{"none", `{"type":"new_message","seq":11}`, Cursor{1: 10, 2: 20}, ""},
		{"handed", `{"type":"complete","cursor":{"1":30}}`, Cursor{1: 30}, ""},
		{"again", `{"type":"new_message","pos":"1:10","seq":10}`, Cursor{1: 10, 2: 20}, "new_message at 1:10 pushed after 1:10"},
		{"back", `{"type":"new_message","pos":"1:9","seq":9}`, Cursor{1: 9, 2: 20}, "new_message at 1:9 pushed after 1:10"},
		{"another seq", `{"type":"new_message","pos":"1:11","seq":12}`, Cursor{1: 11, 2: 20}, "new_message at 1:11 has seq 12"},
		{"bad", `{"type":"new_message","pos":"1-11","seq":11}`, Cursor{1: 10, 2: 20}, `position "1-11": want partition:seq`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Push
			require.NoError(t, json.Unmarshal([]byte(tt.push), &p))
			cursor := Cursor{1: 10, 2: 20}
			require.Equal(t, tt.violation, cursor.follow(&p))
			require.Equal(t, tt.cursor, cursor)
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"id":1,"connected":{"user":1001,"session":"s","cursor":{"0":17},"recovered":true,"complete":true,"ping_seconds":25}}`,
		`{"id":2,"sent":{"message_id":"m","conversation":"u:1001:1002","timestamp":1642678800}}`,
		`{"id":2,"error":{"code":"unavailable","message":"try again"}}`,
		`{"id":3,"messages":{"conversation":"u:1001:1002","messages":[{"seq":349,"message_id":"m","recalled":true}],"more":false}}`,
		`{"push":{"type":"new_message","pos":"12:349","conversation":"u:1001:1002","seq":349,"message":{"message_id":"m"}}}`,
		`{"push":{"type":"complete","cursor":{"12":349}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, err := Decode(text)
		require.Equal(t, text, frame.Raw)
		if err != nil || frame.Push == nil {
			return
		}
		cursor := Cursor{12: 300}
		violation := cursor.follow(frame.Push)
		pos, err := events.ParsePosition(frame.Push.Pos)
		switch {
		case frame.Push.Pos == "":
			require.Empty(t, violation)
		case err != nil:
			require.NotEmpty(t, violation)
		default:
			require.Equal(t, pos.Seq, cursor[pos.Partition])
		}
	})
}
