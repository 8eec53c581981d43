package connect

import (
	"testing"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

func TestAnswerToASendIsWhatTheProtocolSays(t *testing.T) {
	for want, sent := range map[string]*millracev1.SendWSMessageResponse{
		`{"id":7,"sent":{"message_id":"a1","conversation":"u:1001:1002","timestamp":1642678800}}`: {
			MessageId: "a1", Conversation: "u:1001:1002", Timestamp: 1642678800,
		},
		`{"id":7,"sent":{"message_id":"\"\n","conversation":"g:1","timestamp":0,"replaced":true}}`: {
			MessageId: "\"\n", Conversation: "g:1", Replaced: true,
		},
		`{"id":7,"sent":{"message_id":"�","conversation":"","timestamp":0}}`: {MessageId: "\xff"},
	} {
		require.Equal(t, want, string(sentFrame(7, sent)))
	}
}
