package connect

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
)

// The error codes that clients see.
const (
	codeUnauthenticated = "unauthenticated"
	codeInvalid         = "invalid_argument"
	codeDenied          = "permission_denied"
	codeNotFound        = "not_found"
	codeTooLarge        = "too_large"
	codeRateLimited     = "rate_limited"
	codeUnavailable     = "unavailable"
	codeRejected        = "rejected"
	codeInternal        = "internal"
)

// The close codes of the protocol beyond those of RFC 6455.
const (
	closeUnauthenticated = 4001
	closeExpired         = 4003
	closeSlow            = 4008
	closeReplaced        = 4009
	closeDisconnected    = 4010
	closeFlood           = 4029
)

// The types of the pushes that gateways make. All others are made of records, by events.DeliveryOf.
const (
	pushComplete    = "complete"
	pushTyping      = "typing"
	pushUserOnline  = "user_online"
	pushUserOffline = "user_offline"
)

// refusal is the error in the answer to a frame.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func refuse(code, message string) *refusal { return &refusal{Code: code, Message: message} }

// Error makes a refusal an error.
func (r *refusal) Error() string { return r.Code + ": " + r.Message }

// asRefusal returns what the client is told of the error.
func asRefusal(err error) *refusal {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused
	}
	return refusalOf(err)
}

// refusalOf returns what the client is told of a failed call. The client sees the text of the message service only if the
// failure is its own fault.
func refusalOf(err error) *refusal {
	s := status.Convert(err)
	return refusalFor(s.Code(), s.Message())
}

func refusalFor(code codes.Code, message string) *refusal {
	switch code {
	case codes.InvalidArgument:
		return refuse(codeInvalid, message)
	case codes.OutOfRange:
		return refuse(codeTooLarge, message)
	case codes.PermissionDenied:
		return refuse(codeDenied, message)
	case codes.NotFound:
		return refuse(codeNotFound, message)
	case codes.ResourceExhausted:
		return refuse(codeRateLimited, message)
	case codes.FailedPrecondition:
		return refuse(codeRejected, message)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return unavailable()
	}
	// Unauthenticated is among these, because the message service has refused this gateway and not the user.
	return refuse(codeInternal, "internal error")
}

// refusedToken returns the refusal for the error of a verifier, or nil without one. It says that the token is not valid only
// if that is known.
func refusedToken(err error) *refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrUnauthenticated):
		return refuse(codeUnauthenticated, err.Error())
	}
	return unavailable()
}

func unavailable() *refusal { return refuse(codeUnavailable, "try again") }

// ownFault reports whether the message itself was refused, so that those after it may still be accepted.
func ownFault(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.OutOfRange, codes.PermissionDenied, codes.NotFound, codes.FailedPrecondition:
		return true
	}
	return false
}

// resultFrame returns {"id":7,"<name>":…}.
func resultFrame(id int64, name string, value any) []byte {
	body, err := json.Marshal(value)
	if err != nil {
		return errorFrame(id, refuse(codeInternal, "internal error"))
	}
	frame := make([]byte, 0, len(body)+len(name)+32)
	frame = append(frame, '{')
	if id != 0 {
		frame = append(frame, `"id":`...)
		frame = strconv.AppendInt(frame, id, 10)
		frame = append(frame, ',')
	}
	frame = append(frame, '"')
	frame = append(frame, name...)
	frame = append(frame, `":`...)
	frame = append(frame, body...)
	return append(frame, '}')
}

// sentFrame returns {"id":7,"sent":…}. It is made for every message, so it is put together by hand.
func sentFrame(id int64, sent *millracev1.SendWSMessageResponse) []byte {
	frame := make([]byte, 0, 192)
	frame = strconv.AppendInt(append(frame, `{"id":`...), id, 10)
	frame = appendText(append(frame, `,"sent":{"message_id":`...), sent.GetMessageId())
	frame = appendText(append(frame, `,"conversation":`...), sent.GetConversation())
	frame = strconv.AppendInt(append(frame, `,"timestamp":`...), sent.GetTimestamp(), 10)
	if sent.GetReplaced() {
		frame = append(frame, `,"replaced":true`...)
	}
	return append(frame, "}}"...)
}

// appendText appends a JSON string.
func appendText(frame []byte, text string) []byte {
	frame, _ = jsontext.AppendQuote(frame, text) // where it fails it has put U+FFFD
	return frame
}

// errorFrame returns the error for the frame with the id; with 0 it has no id.
func errorFrame(id int64, r *refusal) []byte { return resultFrame(id, "error", r) }

// pushFrame returns {"push":…}.
func pushFrame(value any) []byte { return resultFrame(0, "push", value) }

// withoutPos returns the push without its position, for clients whose cursor must not move yet.
func withoutPos(push []byte) []byte {
	var frame struct {
		Push map[string]json.RawMessage `json:"push"`
	}
	if json.Unmarshal(push, &frame) != nil || frame.Push["pos"] == nil {
		return push
	}
	delete(frame.Push, "pos")
	return pushFrame(frame.Push)
}
