package connect

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// Whatever a client sends, the frame is either one known verb with an object, or refused, and the answer is valid JSON.
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
