package events

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForeignRecordIsCompletedTheSameByEveryConsumer(t *testing.T) {
	const foreign = `{"type":"new_message","message":{"from":1002,"to":1001,"content":"hi","message_type":1,"timestamp":5},"timestamp":5}`
	pos := Position{Partition: 3, Seq: 9}
	first, err := Decode(TopicMessages, pos, []byte(foreign))
	require.NoError(t, err)
	require.Equal(t, "u:1001:1002", first.Message.Conversation)
	require.NotEmpty(t, first.Message.MessageID)
	require.Equal(t, first.Message.MessageID, first.EventID)

	again, err := Decode(TopicMessages, pos, []byte(foreign))
	require.NoError(t, err)
	require.Equal(t, first, again)

	elsewhere, err := Decode(TopicMessages, Position{Partition: 3, Seq: 10}, []byte(foreign))
	require.NoError(t, err)
	require.NotEqual(t, first.EventID, elsewhere.EventID)
}

func TestForeignClientMsgIDGivesTheIDThatASendWouldHave(t *testing.T) {
	e, err := Decode(TopicMessages, Position{}, []byte(
		`{"type":"new_message","message":{"from":1,"to":2,"client_msg_id":"c1","content":"hi","message_type":1,"timestamp":5},"timestamp":5}`))
	require.NoError(t, err)
	require.Equal(t, MessageID(1, "u:1:2", "c1"), e.Message.MessageID)
}

func TestExtraStaysAsItWasGivenAndNullIsNone(t *testing.T) {
	for given, want := range map[string]Extra{
		`{"n":1.50e400,"s":"\u00fc<\/>","o":{"a":[null]}}`: Extra(`{"n":1.50e400,"s":"\u00fc<\/>","o":{"a":[null]}}`),
		`{}`: Extra(`{}`), `null`: nil,
	} {
		e, err := Decode(TopicMessages, Position{}, []byte(
			`{"type":"new_message","message":{"from":1,"to":2,"content":"hi","message_type":1,"extra":`+given+`}}`))
		require.NoError(t, err)
		require.Equal(t, want, e.Message.Extra)
		again, err := Encode(&e)
		require.NoError(t, err)
		require.Equal(t, want != nil, strings.Contains(string(again), `"extra":`+given))
	}
}

func TestUnknownTypeIsNoError(t *testing.T) {
	e, err := Decode(TopicMessages, Position{Seq: 1}, []byte(`{"type":"reaction_added","emoji":"x","timestamp":1}`))
	require.NoError(t, err)
	require.False(t, e.Type.Known())
	require.NotEmpty(t, e.EventID)
}

func TestRecordThatBreaksARuleIsInvalidWithTheRuleAsReason(t *testing.T) {
	const valid = `"type":"new_message","timestamp":1,`
	message := func(m string) string {
		return `{` + valid + `"message":{"content":"hi","message_type":1,` + m + `}}`
	}
	plain := func(m string) string { return `{` + valid + `"message":{"from":1,"to":2,` + m + `}}` }
	change := func(kind, rest string) string {
		return `{"type":"` + kind + `","conversation":"u:1:2","message_id":"m","by":1,"timestamp":1,` + rest + `}`
	}
	group := func(kind, rest string) string {
		return `{"type":"` + kind + `","conversation":"g:2","group_id":2,"timestamp":1,` + rest + `}`
	}
	for name, test := range map[string]struct{ data, reason string }{
		"empty":                 {"", ""},
		"no JSON":               {"hello", ""},
		"array":                 {`[1]`, "no JSON object"},
		"wrong type":            {message(`"from":"one","to":2`), "wrong type of message.from"},
		"no type":               {`{"timestamp":1}`, "no type"},
		"no UTF-8":              {"{\"type\":\"\xff\"}", "UTF-8"},
		"no UTF-8, unknown":     {"{\"type\":\"reaction_added\",\"x\":\"\xff\"}", "UTF-8"},
		"type twice":            {`{"type":"new_message","type":"message_read"}`, "duplicate"},
		"deep nesting":          {strings.Repeat(`{"a":`, 20000), "depth"},
		"no message":            {`{` + valid + `"by":1}`, "no message"},
		"from 0":                {message(`"to":2`), "from 0"},
		"negative from":         {message(`"from":-1,"to":2`), "from -1"},
		"from above 2^53-1":     {message(`"from":9007199254740992,"to":2`), "from 9007199254740992"},
		"from as text":          {message(`"from":"1","to":2`), "from"},
		"neither to nor group":  {message(`"from":1`), "exactly one of to and group_id"},
		"both to and group":     {message(`"from":1,"to":2,"group_id":3`), "exactly one of to and group_id"},
		"another conversation":  {message(`"from":1,"to":2,"conversation":"u:1:3"`), `conversation "u:1:3", want "u:1:2"`},
		"another's group":       {message(`"from":1,"group_id":2,"conversation":"g:3"`), `conversation "g:3", want "g:2"`},
		"long message_id":       {message(`"from":1,"to":2,"message_id":"` + strings.Repeat("x", 65) + `"`), "event_id of 65 bytes"},
		"recalled from birth":   {message(`"from":1,"to":2,"recalled":true`), "recalled in a new message"},
		"no message_type":       {plain(`"content":"hi"`), "message_type 0"},
		"negative message_type": {plain(`"content":"hi","message_type":-1`), "message_type -1"},
		"message_type 7":        {plain(`"content":"hi","message_type":7`), "message_type 7: want 1 to 6, or 100 and above"},
		"message_type 99":       {plain(`"content":"hi","message_type":99`), "message_type 99"},
		"no content":            {plain(`"message_type":1`), "no content"},
		"empty content":         {plain(`"message_type":1,"content":""`), "no content"},
		"too much content":      {plain(`"message_type":1,"content":"` + strings.Repeat("x", MaxContentBytes+1) + `"`), "content of 32769 bytes"},
		"extra that is a list":  {message(`"from":1,"to":2,"extra":[1]`), "extra: want a JSON object"},
		"extra with name twice": {message(`"from":1,"to":2,"extra":{"a":1,"a":2}`), "duplicate"},
		"too much extra":        {message(`"from":1,"to":2,"extra":{"a":"` + strings.Repeat("x", MaxExtraBytes) + `"}`), "extra of 4104 bytes, more than 4096"},
		"long reply_to":         {message(`"from":1,"to":2,"reply_to":"` + strings.Repeat("x", 65) + `"`), "reply_to of 65 bytes"},
		"mention of nobody":     {message(`"from":1,"to":2,"mentions":[3,0]`), "mention of user 0"},
		"too many mentions":     {message(`"from":1,"to":2,"mentions":[` + strings.Repeat("1,", MaxMentions) + `1]`), "51 mentions, more than 50"},
		"edit with no object":   {change("message_edited", `"seq":1,"content":"x","extra":1`), "extra: want a JSON object"},
		"recall with extra":     {change("message_recalled", `"seq":1,"extra":{}`), "content in a recall"},
		"edit by nobody":        {`{"type":"message_edited","conversation":"u:1:2","message_id":"m","seq":1,"content":"x","timestamp":1}`, "by 0"},
		"recall by nobody":      {`{"type":"message_recalled","conversation":"u:1:2","message_id":"m","seq":1,"timestamp":1}`, "reason of 0 bytes"},
		"recall with both":      {change("message_recalled", `"seq":1,"reason":"x"`), "by 1: want the user who changes the message, or"},
		"edit with a reason":    {change("message_edited", `"seq":1,"content":"x","reason":"x"`), "by 1: want the user who"},
		"recall, long reason":   {`{"type":"message_recalled","conversation":"u:1:2","message_id":"m","seq":1,"reason":"` + strings.Repeat("x", 1025) + `"}`, "reason of 1025 bytes"},
		"moderated nobody":      {`{"type":"message_moderated","conversation":"u:1:2","message_id":"m","seq":1,"user":3,"reason":"x"}`, "user 3"},
		"moderated nothing":     {`{"type":"message_moderated","conversation":"u:1:2","seq":1,"user":1,"reason":"x"}`, "message_id of 0 bytes"},
		"moderated for nothing": {`{"type":"message_moderated","conversation":"u:1:2","message_id":"m","seq":1,"user":1}`, "reason of 0 bytes"},
		"moderated nowhere":     {`{"type":"message_moderated","conversation":"u:2:1","message_id":"m","seq":1,"user":1,"reason":"x"}`, "conversation"},
		"moderated the future":  {`{"type":"message_moderated","conversation":"u:1:2","message_id":"m","seq":9,"user":1,"reason":"x"}`, "seq 9 does not lie before"},
		"sent in milliseconds": {
			message(`"from":1,"to":2,"timestamp":1642678800000`),
			"timestamp 1642678800000 lies after the year 9999: want Unix seconds, these look like milliseconds",
		},
		"event in milliseconds": {`{"type":"message_read","conversation":"u:1:2","user":1,"seq":1,"timestamp":1642678800000}`, "milliseconds"},
		"a message in an edit":  {change("message_edited", `"seq":1,"content":"x","message":{}`), `a message in "message_edited"`},
		"edit of nothing":       {`{"type":"message_edited","conversation":"u:1:2","seq":1,"by":1,"content":"x","timestamp":1}`, "message_id of 0 bytes"},
		"edit to nothing":       {change("message_edited", `"seq":1`), "no content"},
		"edit of the future":    {change("message_edited", `"seq":9,"content":"x"`), "seq 9 does not lie before the record's own, 9"},
		"recall of the future":  {change("message_recalled", `"seq":10`), "seq 10 does not lie before"},
		"recall with content":   {change("message_recalled", `"seq":1,"content":"x"`), "content in a recall"},
		"read by a stranger":    {`{"type":"message_read","conversation":"u:1:2","user":3,"seq":1,"timestamp":1}`, "user 3"},
		"group of another name": {`{"type":"member_joined","conversation":"g:1","group_id":2,"user":3,"by":3,"timestamp":1}`, `want "g:2"`},
		"negative timestamp":    {`{"type":"member_joined","conversation":"g:2","group_id":2,"user":3,"by":3,"timestamp":-1}`, "timestamp -1"},
		"join of no kind":       {group("group_created", `"user":3,"by":3,"members":[3],"join":"closed"`), `join "closed", want "open" or nothing`},
		"long client_msg_id":    {group("group_created", `"user":3,"by":3,"members":[3],"client_msg_id":"`+strings.Repeat("x", 65)+`"`), "client_msg_id of 65 bytes"},
		"group for another":     {group("group_created", `"user":3,"by":4,"members":[3]`), "by 4, want the owner, user 3"},
		"owner outside":         {group("group_created", `"user":3,"by":3,"members":[4]`), "the owner, user 3, is not among the members"},
		"a member twice":        {group("group_created", `"user":3,"by":3,"members":[3,3]`), "ascending"},
		"settings of nothing":   {`{"type":"conversation_settings","conversation":"u:1:2","user":1}`, "want at least one of"},
		"settings by another":   {`{"type":"conversation_settings","conversation":"u:1:2","user":3,"pinned":true}`, "user 3"},
		"settings nowhere":      {`{"type":"conversation_settings","conversation":"u:2:1","user":1,"pinned":true}`, "conversation"},
		"muted in milliseconds": {`{"type":"conversation_settings","conversation":"g:2","user":1,"muted_until":1642678800000}`, "milliseconds"},
		"renamed to nothing":    {group("group_renamed", `"by":3`), "want a name and no user"},
		"a user renamed":        {group("group_renamed", `"by":3,"user":3,"name":"x"`), "want a name and no user"},
		"long new name":         {group("group_renamed", `"by":3,"name":"`+strings.Repeat("x", 257)+`"`), "name of 257 bytes"},
		"an unknown role":       {group("member_role", `"user":3,"by":4,"role":"king"`), `role "king": want owner, admin or member`},
		"no role":               {group("member_role", `"user":3,"by":4`), "want owner, admin or member"},
		"a role for nobody":     {group("member_role", `"by":4,"role":"admin"`), "user 0"},
		"a role for oneself":    {group("member_role", `"user":4,"by":4,"role":"admin"`), "user 4 gives itself a role"},
		"muted without end":     {group("member_muted", `"user":3,"by":4`), "no until"},
		"muted for ever":        {group("member_muted", `"user":3,"by":4,"until":1642678800000`), "these look like milliseconds"},
		"nobody real is muted":  {group("member_muted", `"user":-3,"by":4,"until":1`), "user -3"},
		"dissolved by another":  {group("group_dissolved", `"user":3,"by":4`), "by 4, want the owner, user 3"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(TopicMessages, Position{Seq: 9}, []byte(test.data))
			require.ErrorContains(t, err, test.reason)
			require.True(t, IsPermanent(err))
		})
	}
}

func TestRecordOfUserEventsThatBreaksARuleIsInvalid(t *testing.T) {
	for name, test := range map[string]struct{ data, reason string }{
		"no user":            {`{"type":"user_online","timestamp":1}`, "user 0"},
		"user above 2^53-1":  {`{"type":"user_offline","user":9007199254740992,"timestamp":1}`, "user 9007199254740992"},
		"user as text":       {`{"type":"user_offline","user":"1","timestamp":1}`, "user"},
		"a message":          {`{"type":"user_online","user":1,"message":{},"timestamp":1}`, `a message in "user_online"`},
		"negative timestamp": {`{"type":"user_online","user":1,"timestamp":-1}`, "timestamp -1"},
		"nobody blocked":     {`{"type":"user_blocked","by":1,"timestamp":1}`, "user 0"},
		"blocked by nobody":  {`{"type":"user_blocked","user":1,"timestamp":1}`, "by 0"},
		"unblocked by -1":    {`{"type":"user_unblocked","user":1,"by":-1,"timestamp":1}`, "by -1"},
		"blocked by itself":  {`{"type":"user_blocked","user":1,"by":1,"timestamp":1}`, "user 1 by itself"},
		"nobody's tokens":    {`{"type":"tokens_revoked","before":1,"timestamp":1}`, "user 0"},
		"no token":           {`{"type":"tokens_revoked","user":1,"timestamp":1}`, "before 0"},
		"tokens before 1970": {`{"type":"tokens_revoked","user":1,"before":-1,"timestamp":1}`, "before -1"},
		"milliseconds":       {`{"type":"tokens_revoked","user":1,"before":1642678800000,"timestamp":1}`, "milliseconds"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(TopicUsers, Position{Seq: 9}, []byte(test.data))
			require.ErrorContains(t, err, test.reason)
			require.True(t, IsPermanent(err))
		})
	}
}

func TestRecordOfSystemEventsThatBreaksARuleIsInvalid(t *testing.T) {
	notice := func(members string) string { return `{"type":"system_notice","timestamp":1,` + members + `}` }
	to := func(members string) string { return notice(`"notice_id":"n","content":"x","to":{` + members + `}`) }
	call := func(members string) string {
		return `{"type":"operator_called","timestamp":1,"call":{` + members + `}}`
	}
	long := strings.Repeat("x", MaxClaimBytes+1)
	for name, test := range map[string]struct{ data, reason string }{
		"no id":               {notice(`"content":"x"`), "notice_id of 0 bytes"},
		"a long id":           {notice(`"content":"x","notice_id":"` + strings.Repeat("n", 65) + `"`), "notice_id of 65 bytes"},
		"no content":          {notice(`"notice_id":"n"`), "no content"},
		"too much content":    {notice(`"notice_id":"n","content":"` + strings.Repeat("x", MaxContentBytes+1) + `"`), "content of 32769 bytes"},
		"extra as a list":     {notice(`"notice_id":"n","content":"x","extra":[]`), "extra: want a JSON object"},
		"to nobody":           {to(`"users":[]`), "no users"},
		"to user 0":           {to(`"users":[1,0]`), "user 0"},
		"to too many":         {to(`"users":[` + strings.Repeat("1,", MaxNoticeUsers) + `1]`), "10001 users, more than 10000"},
		"to users of a type":  {to(`"users":[1],"user_type":"vip"`), "want either users, or"},
		"to users of a place": {to(`"users":[1],"region":"eu"`), "want either users, or"},
		"to a long type":      {to(`"user_type":"` + long + `"`), "of 257 bytes"},
		"to a long region":    {to(`"region":"` + long + `"`), "of 257 bytes"},
		"to a user":           {notice(`"notice_id":"n","content":"x","to":1`), "to"},
		"no call":             {`{"type":"operator_called","timestamp":1}`, "no call"},
		"a call by nobody":    {call(`"method":"m"`), "key of 0 bytes"},
		"a call of nothing":   {call(`"key":"k"`), "method of 0 bytes"},
		"a call by much":      {call(`"key":"` + long + `","method":"m"`), "key of 257 bytes"},
		"a call of much":      {call(`"key":"k","method":"` + long + `"`), "method of 257 bytes"},
		"a call about much":   {call(`"key":"k","method":"m","target":{"user":"` + strings.Repeat("x", MaxCallTargetBytes+1) + `"}`), "parameter \"user\" of 4097 bytes"},
		"an unnamed target":   {call(`"key":"k","method":"m","target":{"":"x"}`), "parameter"},
		"a target no text":    {call(`"key":"k","method":"m","target":{"user":1}`), "target"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(TopicSystem, Position{Seq: 9}, []byte(test.data))
			require.ErrorContains(t, err, test.reason)
			require.True(t, IsPermanent(err))
		})
	}
}

func TestRepeatsOfANoticeHaveOneEventIDAndOneKey(t *testing.T) {
	first, err := Decode(TopicSystem, Position{Seq: 1}, []byte(`{"type":"system_notice","notice_id":"n","content":"x","timestamp":1}`))
	require.NoError(t, err)
	again, err := Decode(TopicSystem, Position{Seq: 2}, []byte(`{"type":"system_notice","notice_id":"n","content":"x","timestamp":2}`))
	require.NoError(t, err)
	require.Equal(t, first.EventID, again.EventID)
	require.Equal(t, "n", again.Key())
}

func TestTypeOfAnotherTopicIsUnknown(t *testing.T) {
	for topic, data := range map[string]string{
		TopicMessages: `{"type":"user_online","timestamp":1}`, TopicUsers: `{"type":"new_message","timestamp":1}`,
		TopicGroups: `{"type":"user_blocked","timestamp":1}`,
		TopicSystem: `{"type":"tokens_revoked","timestamp":1}`,
	} {
		e, err := Decode(topic, Position{Seq: 1}, []byte(data))
		require.NoError(t, err)
		require.False(t, e.Type.On(topic))
	}
}

func TestKeyOfAUserEventIsTheUserWhoseStateItIs(t *testing.T) {
	require.Equal(t, "1001", (&Event{Type: UserOnline, User: 1001}).Key())
	require.Equal(t, "1001", (&Event{Type: UserBlocked, User: 1002, By: 1001}).Key())
	require.Equal(t, "1001", (&Event{Type: UserUnblocked, User: 1003, By: 1001}).Key())
	require.Equal(t, "g:7", (&Event{Type: MemberJoined, User: 1001, GroupID: 7, Conversation: "g:7"}).Key())
}

func TestNamedAndOwnMessageTypesAreAccepted(t *testing.T) {
	for _, kind := range []int32{1, 6, FirstOwnMessageType, math.MaxInt32} {
		m := Message{MessageID: "m", Conversation: "u:1:2", From: 1, To: 2, Content: "hi", MessageType: kind}
		_, err := Encode(&Event{Type: NewMessage, Message: &m})
		require.NoError(t, err, kind)
	}
}

func TestChangeReadInTheFirstEpochMayNameAMessageOfALaterOne(t *testing.T) {
	change := fmt.Sprintf(`{"type":"message_recalled","conversation":"u:1:2","message_id":"m","by":1,"timestamp":1,"seq":%d}`, Seq(1, 3))
	_, err := Decode(TopicMessages, Position{Seq: Seq(0, 5)}, []byte(change))
	require.NoError(t, err)
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	_, err := Encode(&Event{Type: NewMessage, Message: &Message{From: 1}})
	require.True(t, IsPermanent(err))
	_, err = Encode(&Event{Type: "reaction_added"})
	require.True(t, IsPermanent(err))
}

func FuzzDecode(f *testing.F) {
	for _, e := range samples() {
		data, err := Encode(&e)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"type":"new_message","message":{"from":1,"to":2,"content":"x","message_type":1,"timestamp":1},"timestamp":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		pos := Position{Partition: 1, Seq: 1000}
		e, err := Decode(TopicMessages, pos, data)
		if err != nil {
			require.True(t, IsPermanent(err), "%v", err)
			return
		}
		require.NotEmpty(t, e.EventID)
		_, err = DeliveryOf(&Record{Event: e, Position: pos})
		require.NoError(t, err)
		if !e.Type.Known() {
			return
		}
		encoded, err := Encode(&e)
		require.NoError(t, err)
		again, err := Decode(TopicMessages, pos, encoded)
		require.NoError(t, err)
		require.Equal(t, e.ConversationKey(), again.ConversationKey())
		require.Equal(t, e.EventID, again.EventID)
	})
}

func FuzzDecodeUserEvent(f *testing.F)   { fuzzDecode(f, TopicUsers, userSamples()) }
func FuzzDecodeSystemEvent(f *testing.F) { fuzzDecode(f, TopicSystem, systemSamples()) }

// fuzzDecode decodes records of a topic that has no conversations.
func fuzzDecode(f *testing.F, topic string, samples map[string]Event) {
	f.Helper()
	for _, e := range samples {
		data, err := Encode(&e)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pos := Position{Partition: 1, Seq: 1000}
		e, err := Decode(topic, pos, data)
		if err != nil {
			require.True(t, IsPermanent(err), "%v", err)
			return
		}
		require.NotEmpty(t, e.EventID)
		if !e.Type.On(topic) {
			return
		}
		if e.Type == SystemNotice {
			_, err := NoticeOf(&e)
			require.NoError(t, err)
		}
		encoded, err := Encode(&e)
		require.NoError(t, err)
		again, err := Decode(topic, pos, encoded)
		require.NoError(t, err)
		require.Equal(t, e.Key(), again.Key())
		require.Equal(t, e.EventID, again.EventID)
	})
}

func BenchmarkDecode(b *testing.B) {
	sample := samples()["new_message"]
	data, err := Encode(&sample)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(TopicMessages, Position{}, data); err != nil {
			b.Fatal(err)
		}
	}
}
