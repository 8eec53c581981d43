package connect

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/events"
)

// request is a client's frame: {"id":7,"<verb>":{…}}.
type request struct {
	id   int64
	verb string
	body jsontext.Value
}

// decodeFrame reads a client's frame. It returns the request's id, if the frame has one, even if it refuses the frame. It
// compares the names of members exactly and refuses an object in which a name occurs twice, so that a program that checks
// frames on their way sees the same values as the gateway. The request's body is a part of the data.
func decodeFrame(data []byte) (request, *refusal) {
	f := frame{data: data}
	if json.Unmarshal(data, &f, jsontext.AllowInvalidUTF8(true)) == nil {
		f.check()
	} else {
		f.refused = refuse(codeInvalid, "want a JSON object without repeated names")
	}
	if f.id == 0 { // it may come after the part that was refused
		again := frame{data: data}
		_ = json.Unmarshal(data, &again, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
		f.request = request{id: again.id}
	}
	return f.request, f.refused
}

// frame is a client's frame that is being decoded.
type frame struct {
	request
	data    []byte
	refused *refusal
}

var errNoObject = errors.New("want an object")

// UnmarshalJSONFrom notes the id, the verb and the verb's members. If a name may be repeated, the first id counts.
func (f *frame) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return errNoObject
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		switch {
		case name == "id" && f.id == 0:
			f.id = idOf(value)
		case !knownVerb(name):
		case f.verb != "":
			f.refused = refuse(codeInvalid, "want one verb, not both "+f.verb+" and "+name)
		default:
			end := int(d.InputOffset())
			f.verb, f.body = strings.Clone(name), f.data[end-len(value):end]
		}
	}
	_, err := d.ReadToken() // the closing brace
	return err
}

// check refuses a frame that is no request.
func (f *frame) check() {
	switch {
	case f.refused != nil:
	case f.id == 0:
		f.refused = refuse(codeInvalid, "id: want an integer from 1 to 2^53-1")
	case f.verb == "":
		f.refused = refuse(codeInvalid, "no known verb")
	case f.body.Kind() != '{':
		f.refused = refuse(codeInvalid, f.verb+": want an object")
	}
}

// idOf returns the id that the value is, or 0.
func idOf(value jsontext.Value) int64 {
	id, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || id < 1 || id > events.MaxID {
		return 0
	}
	return id
}

func knownVerb(name string) bool {
	switch name {
	case "connect", "refresh", "send", "history", "conversations", "readers", "settings", "read", "recall", "edit", "typing", "presence", "ping",
		"block", "unblock", "blocked",
		"group_create", "group_join", "group_leave", "group_add", "group_remove", "group_info",
		"group_rename", "group_dissolve", "group_role", "group_mute", "push_subscribe", "push_unsubscribe":
		return true
	}
	return false
}

// into decodes the verb's members into body.
func (r request) into(body any) *refusal {
	err := json.Unmarshal(r.body, body)
	if err != nil {
		if mended, ok := replaceInvalidText(r.body); ok {
			err = json.Unmarshal(mended, body)
		}
	}
	var wrong *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.JSONPointer != "":
		return refuse(codeInvalid, r.verb+": wrong type of "+strings.ReplaceAll(string(wrong.JSONPointer[1:]), "/", "."))
	}
	return refuse(codeInvalid, r.verb+": malformed")
}

// replaceInvalidText puts U+FFFD in the place of invalid Unicode, such as half of a surrogate pair, in those members of the
// object that are text for people. Members that identify something are left alone, and refused later, because two different
// ids must not become the same. It reports whether it has replaced anything.
func replaceInvalidText(object jsontext.Value) (jsontext.Value, bool) {
	d := jsontext.NewDecoder(bytes.NewBuffer(object), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil { // the opening brace
		return nil, false
	}
	var mended jsontext.Value
	kept := 0 // how much of the object was copied to mended
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		text := name.String() == "content" || name.String() == "name"
		value, err := d.ReadValue()
		if err != nil {
			return nil, false
		}
		if !text || value.Kind() != '"' || value.IsValid() {
			continue
		}
		end := int(d.InputOffset())
		mended = append(mended, object[kept:end-len(value)]...)
		unquoted, _ := jsontext.AppendUnquote(nil, value) // it returns an error where it has replaced something
		if mended, err = jsontext.AppendQuote(mended, unquoted); err != nil {
			return nil, false
		}
		kept = end
	}
	return append(mended, object[kept:]...), kept > 0
}

// The members of the verbs.
type (
	connectBody struct {
		Token  string       `json:"token"`
		Device string       `json:"device"`
		Cursor clientCursor `json:"cursor"`
	}
	refreshBody struct {
		Token string `json:"token"`
	}
	sendBody struct {
		To          int64        `json:"to"`
		GroupID     int64        `json:"group_id"`
		Content     string       `json:"content"`
		MessageType int32        `json:"message_type"`
		ClientMsgID string       `json:"client_msg_id"`
		Extra       events.Extra `json:"extra"`
		ReplyTo     string       `json:"reply_to"`
		Mentions    []int64      `json:"mentions"`
	}
	historyBody struct {
		Conversation string `json:"conversation"`
		BeforeSeq    *int64 `json:"before_seq"`
		AfterSeq     *int64 `json:"after_seq"`
		Limit        int32  `json:"limit"`
	}
	conversationsBody struct {
		Limit int32  `json:"limit"`
		Next  string `json:"next"`
	}
	messageBody struct {
		Conversation string       `json:"conversation"`
		MessageID    string       `json:"message_id"`
		Seq          int64        `json:"seq"`
		Content      string       `json:"content"`
		Extra        events.Extra `json:"extra"`
		ClientMsgID  string       `json:"client_msg_id"`
	}
	settingsBody struct {
		Conversation string `json:"conversation"`
		events.Settings
	}
	readersBody struct {
		Conversation string `json:"conversation"`
		Seq          int64  `json:"seq"`
	}
	presenceBody struct {
		Users []int64 `json:"users"`
	}
	blockBody struct {
		User int64 `json:"user"`
	}
	typingBody struct {
		To      int64 `json:"to"`
		GroupID int64 `json:"group_id"`
	}
	subscribeBody struct {
		Endpoint string `json:"endpoint"`
		Keys     struct {
			P256dh string `json:"p256dh"`
			Auth   string `json:"auth"`
		} `json:"keys"`
	}
	groupBody struct {
		GroupID     int64   `json:"group_id"`
		User        int64   `json:"user"`
		Name        string  `json:"name"`
		Members     []int64 `json:"members"`
		Join        string  `json:"join"`
		Role        string  `json:"role"`
		ClientMsgID string  `json:"client_msg_id"`
	}
	muteBody struct {
		GroupID     int64  `json:"group_id"`
		User        *int64 `json:"user"` // nil: all but the owner and the admins
		Until       *int64 `json:"until"`
		ClientMsgID string `json:"client_msg_id"`
	}
)

// target returns the conversation that `to` or `group_id` names. Exactly one of them must be set.
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

// check returns an error if the send must be refused without asking the message service.
func (b *sendBody) check() *refusal {
	if refused := checkContent(b.Content, b.Extra); refused != nil {
		return refused
	}
	if b.MessageType < 0 {
		return refuse(codeInvalid, "message_type: want a positive integer")
	}
	return checkClientMsgID(b.ClientMsgID)
}

func checkContent(content string, extra events.Extra) *refusal {
	switch {
	case len(content) > events.MaxContentBytes:
		return refuse(codeTooLarge, "content: at most 32 KiB")
	case len(extra) > events.MaxExtraBytes:
		return refuse(codeTooLarge, "extra: at most 4 KiB")
	}
	return nil
}

func checkConversation(name string) *refusal {
	if _, err := events.ParseConversation(name); err != nil {
		return refuse(codeInvalid, `conversation: want "u:<low>:<high>" or "g:<group>"`)
	}
	return nil
}

func checkClientMsgID(id string) *refusal {
	if len(id) > events.MaxClientMsgBytes {
		return refuse(codeInvalid, "client_msg_id: at most 64 bytes")
	}
	return nil
}

// clientCursor is the cursor in a client's connect, nil if it has none.
type clientCursor map[int32]int64

// UnmarshalJSONFrom reads an object of sequence numbers by partition. It refuses a null among them, which would count as 0. A
// null instead of the object means no cursor, as for every optional member.
func (c *clientCursor) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var seqs map[int32]*int64
	if err := json.UnmarshalDecode(d, &seqs); err != nil || seqs == nil {
		return err
	}
	*c = make(clientCursor, len(seqs))
	for partition, seq := range seqs {
		if partition < 0 || seq == nil || *seq < 0 || *seq > events.MaxID {
			return errBadCursor
		}
		(*c)[partition] = *seq
	}
	return nil
}

var errBadCursor = errors.New("want sequence numbers from 0 to 2^53-1 by partition")
