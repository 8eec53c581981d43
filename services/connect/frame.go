package connect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	"millrace/events"
)

// request is a client's frame: {"id":7,"<verb>":{…}}.
type request struct {
	id   int64
	verb string
	body json.RawMessage
}

// decodeFrame reads a client's frame. The request's id is set also beside a refusal, if the frame has one.
func decodeFrame(data []byte) (request, *refusal) {
	var r request
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return r, refuse(codeInvalid, "want a JSON object")
	}
	id, err := strconv.ParseInt(string(members["id"]), 10, 64)
	if err != nil || id < 1 || id > events.MaxID {
		return r, refuse(codeInvalid, "id: want an integer from 1 to 2^53-1")
	}
	r.id = id
	for name, body := range members {
		switch {
		case !knownVerb(name):
		case r.verb != "":
			return r, refuse(codeInvalid, "want one verb, not both "+r.verb+" and "+name)
		default:
			r.verb, r.body = name, body
		}
	}
	switch {
	case r.verb == "":
		return r, refuse(codeInvalid, "no known verb")
	case !bytes.HasPrefix(r.body, []byte("{")):
		return r, refuse(codeInvalid, r.verb+": want an object")
	}
	return r, nil
}

func knownVerb(name string) bool {
	switch name {
	case "connect", "refresh", "send", "history", "conversations", "read", "recall", "edit", "typing", "presence", "ping",
		"group_create", "group_join", "group_leave", "group_add", "group_remove", "group_info":
		return true
	}
	return false
}

// into decodes the verb's members.
func (r request) into(body any) *refusal {
	err := json.Unmarshal(r.body, body)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return refuse(codeInvalid, r.verb+": wrong type of "+wrong.Field)
	}
	return refuse(codeInvalid, r.verb+": malformed")
}

// The members of the verbs.
type (
	connectBody struct {
		Token  string          `json:"token"`
		Device string          `json:"device"`
		Cursor map[int32]int64 `json:"cursor"`
	}
	refreshBody struct {
		Token string `json:"token"`
	}
	sendBody struct {
		To          int64  `json:"to"`
		GroupID     int64  `json:"group_id"`
		Content     string `json:"content"`
		MessageType int32  `json:"message_type"`
		ClientMsgID string `json:"client_msg_id"`
	}
	historyBody struct {
		Conversation string `json:"conversation"`
		BeforeSeq    *int64 `json:"before_seq"`
		AfterSeq     *int64 `json:"after_seq"`
		Limit        int32  `json:"limit"`
	}
	conversationsBody struct {
		Limit int32 `json:"limit"`
	}
	messageBody struct {
		Conversation string `json:"conversation"`
		MessageID    string `json:"message_id"`
		Seq          int64  `json:"seq"`
		Content      string `json:"content"`
	}
	presenceBody struct {
		Users []int64 `json:"users"`
	}
	typingBody struct {
		To      int64 `json:"to"`
		GroupID int64 `json:"group_id"`
	}
	groupBody struct {
		GroupID     int64   `json:"group_id"`
		User        int64   `json:"user"`
		Name        string  `json:"name"`
		Members     []int64 `json:"members"`
		ClientMsgID string  `json:"client_msg_id"`
	}
)

// target is the conversation that to or group_id names: exactly one of them.
func target(user, to, group int64) (string, *refusal) {
	switch {
	case (to == 0) == (group == 0):
		return "", refuse(codeInvalid, "want exactly one of to and group_id")
	case to < 0 || to > events.MaxID || group < 0 || group > events.MaxID:
		return "", refuse(codeInvalid, "to and group_id: want an integer from 1 to 2^53-1")
	case group != 0:
		return events.Group(group), nil
	}
	return events.Direct(user, to), nil
}

// check answers why the send cannot be accepted whatever the message service thinks of it.
func (b *sendBody) check() *refusal {
	switch {
	case len(b.Content) > events.MaxContentBytes:
		return refuse(codeTooLarge, "content: at most 32 KiB")
	case len(b.ClientMsgID) > events.MaxClientMsgBytes:
		return refuse(codeInvalid, "client_msg_id: at most 64 bytes")
	case b.MessageType < 0:
		return refuse(codeInvalid, "message_type: want a positive integer")
	}
	return nil
}

// checkCursor holds the client's cursor to what positions can be.
func checkCursor(cursor map[int32]int64) *refusal {
	for partition, seq := range cursor {
		if partition < 0 || seq < 0 || seq > events.MaxID {
			return refuse(codeInvalid, "cursor: want partitions and seqs from 0 to 2^53-1")
		}
	}
	return nil
}
