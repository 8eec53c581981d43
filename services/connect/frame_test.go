package connect

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"millrace/events"
)

// Whatever a client sends, the frame is either one known verb with an object or is refused, and the answer is valid JSON.
func FuzzDecodeFrame(f *testing.F) {
	for _, seed := range []string{
		`{"id":7,"send":{"to":1002,"content":"hello"}}`, `{"id":7,"connect":{"token":"x","cursor":{"1":2}}}`, `{"id":7}`, `null`, `[]`, `{`,
		`{"id":1e3,"ping":{}}`, `{"id":7,"ping":{},"ping":{}}`, `{"id":7,"ping":null}`, `{"id":9007199254740992,"ping":{}}`,
		`{"id":7,"history":{"conversation":"u:1:2","before_seq":0,"limit":-1}}`, `{"id":7,"group_create":{"members":[1,"x"]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, refused := decodeFrame(data)
		require.True(t, r.id >= 0 && r.id <= events.MaxID)
		answer := resultFrame(r.id, "ok", struct{}{})
		if refused != nil {
			answer = errorFrame(r.id, refused)
		} else {
			require.True(t, knownVerb(r.verb) && r.id > 0 && strings.HasPrefix(string(r.body), "{") && json.Valid(r.body))
			for _, body := range []any{
				&connectBody{}, &refreshBody{}, &sendBody{}, &historyBody{}, &conversationsBody{}, &messageBody{}, &typingBody{}, &groupBody{},
			} {
				if refused := r.into(body); refused != nil {
					require.Equal(t, codeInvalid, refused.Code)
					require.True(t, json.Valid(errorFrame(r.id, refused)))
				}
			}
		}
		require.True(t, json.Valid(answer) && utf8.Valid(answer), "%s", answer)
	})
}

// A program that checks frames in front of the gateway must see the same values as the gateway, so names are compared exactly
// and none may occur twice.
func TestNamesOfMembersAreComparedExactlyAndOccurOnce(t *testing.T) {
	for frame, want := range map[string]sendBody{
		`{"id":1,"send":{"to":2,"To":3,"tO":4,"content":"x"}}`:         {To: 2, Content: "x"},
		`{"id":1,"ID":2,"send":{"to":2},"SEND":{"to":3},"x":{"to":4}}`: {To: 2},
		"{\"id\":1,\"send\":{\"meſſage_type\":7,\"Content\":\"y\"}}":   {},
		`{"id":1,"send":{"t\u006f":2}}`:                                {To: 2},
	} {
		r, refused := decodeFrame([]byte(frame))
		require.Nil(t, refused, frame)
		require.EqualValues(t, 1, r.id)
		var b sendBody
		require.Nil(t, r.into(&b), frame)
		require.Equal(t, want, b, frame)
	}
	for _, frame := range []string{
		`{"send":{"to":2},"send":{"to":3},"id":1}`, `{"send":{"to":2,"to":3},"id":1}`, `{"id":1,"x":1,"x":2,"ping":{}}`,
		`{"id":1,"send":{"to":2,"t\u006f":3}}`, `{"id":1,"send":{"x":{"y":1,"y":2}}}`, `{"id":1,"Send":{"to":2}}`, `{"id":1,"ping":{},"send":{}}`,
	} {
		r, refused := decodeFrame([]byte(frame))
		require.NotNil(t, refused, frame)
		require.Equal(t, codeInvalid, refused.Code)
		require.EqualValues(t, 1, r.id, frame)
	}
	r, refused := decodeFrame([]byte(`{"ID":1,"ping":{}}`))
	require.NotNil(t, refused)
	require.Zero(t, r.id)
}

// Text that identifies something is refused if it is invalid Unicode, because different ids would become one if it were
// replaced.
func TestInvalidUnicodeIsRefusedInIdsAndReplacedInText(t *testing.T) {
	r, refused := decodeFrame([]byte(`{"id":1,"send":{"to":2,"content":"a\ud800b\udc00\ud83d\ude00","client_msg_id":"x"}}`))
	require.Nil(t, refused)
	var send sendBody
	require.Nil(t, r.into(&send))
	require.Equal(t, sendBody{To: 2, Content: "a\ufffdb\ufffd😀", ClientMsgID: "x"}, send)

	for verb, bodies := range map[string]struct {
		into  any
		names []string
	}{
		"send":    {&sendBody{}, []string{"client_msg_id", "reply_to", "extra"}},
		"connect": {&connectBody{}, []string{"token", "device"}},
		"refresh": {&refreshBody{}, []string{"token"}},
		"history": {&historyBody{}, []string{"conversation"}},
		"edit":    {&messageBody{}, []string{"conversation", "message_id"}},
	} {
		for _, name := range bodies.names {
			r, refused := decodeFrame([]byte(`{"id":1,"` + verb + `":{"content":"\ud800","` + name + `":"x\ud800"}}`))
			require.Nil(t, refused)
			refused = r.into(bodies.into)
			require.NotNil(t, refused, verb+" "+name)
			require.Equal(t, codeInvalid, refused.Code)
		}
	}
}

func TestACursorIsSequenceNumbersByPartition(t *testing.T) {
	for cursor, want := range map[string]clientCursor{
		`null`: nil, `{}`: {}, `{"0":0,"12":345}`: {0: 0, 12: 345}, `{"63":9007199254740991}`: {63: 9007199254740991},
	} {
		var b connectBody
		require.Nil(t, request{verb: "connect", body: jsontext.Value(`{"cursor":` + cursor + `}`)}.into(&b), cursor)
		require.Equal(t, want, b.Cursor)
	}
	for _, cursor := range []string{
		`[]`, `"x"`, `{"1":null}`, `{"012":1}`, `{"+1":1}`, `{" 1":1}`, `{"-1":1}`, `{"1":-1}`, `{"1":1.5}`, `{"1":"2"}`, `{"1":9007199254740992}`,
		`{"1":1,"1":2}`, `{"2147483648":1}`, `{"":1}`,
	} {
		var b connectBody
		refused := request{verb: "connect", body: jsontext.Value(`{"cursor":` + cursor + `}`)}.into(&b)
		require.NotNil(t, refused, cursor)
		require.Equal(t, codeInvalid, refused.Code)
	}
}

func TestAPushLosesItsPositionAndNothingElse(t *testing.T) {
	require.JSONEq(t, `{"push":{"type":"new_message","seq":9007199254740991,"message":{"content":"\"pos\":\"1:2\""}}}`, string(withoutPos(
		[]byte(`{"push":{"type":"new_message","pos":"12:9007199254740991","seq":9007199254740991,"message":{"content":"\"pos\":\"1:2\""}}}`))))
	for _, other := range []string{`{"push":{"type":"message_read","seq":1}}`, `not JSON`} {
		require.Equal(t, other, string(withoutPos([]byte(other))))
	}
}

func TestAPageIsCutToItsRoom(t *testing.T) {
	items := make([]any, 100)
	for i := range items {
		items[i] = strings.Repeat("x", 10<<10)
	}
	items[0], items[99] = "first", "last"
	for _, fromEnd := range []bool{false, true} {
		kept, cut, err := fit(items, fromEnd)
		require.NoError(t, err)
		require.True(t, cut)
		require.Len(t, kept, 52)
		end, want := 0, `"first"`
		if fromEnd {
			end, want = len(kept)-1, `"last"`
		}
		require.Equal(t, want, string(kept[end]))
	}
	kept, cut, err := fit(items[:10], true)
	require.NoError(t, err)
	require.False(t, cut)
	require.Len(t, kept, 10)
}
