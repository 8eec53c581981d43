package connect

import (
	"encoding/json"
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
)

// The error codes a client sees.
const (
	codeUnauthenticated = "unauthenticated"
	codeInvalid         = "invalid_argument"
	codeDenied          = "permission_denied"
	codeNotFound        = "not_found"
	codeTooLarge        = "too_large"
	codeRateLimited     = "rate_limited"
	codeUnavailable     = "unavailable"
	codeInternal        = "internal"
)

// The close codes of the protocol beside those of RFC 6455.
const (
	closeUnauthenticated = 4001
	closeExpired         = 4003
	closeSlow            = 4008
	closeReplaced        = 4009
	closeFlood           = 4029
)

// refusal is the error that answers a frame.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func refuse(code, message string) *refusal { return &refusal{Code: code, Message: message} }

// Error lets a refusal pass where errors do.
func (r *refusal) Error() string { return r.Code + ": " + r.Message }

// asRefusal is what the client is told of the error.
func asRefusal(err error) *refusal {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused
	}
	return refusalOf(err)
}

// refusalOf maps a failed call to what the client is told. Only what is the client's own fault is told in the words of the
// message service.
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
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return unavailable()
	}
	// Unauthenticated too: it is this gateway that the message service refused, not the user.
	return refuse(codeInternal, "internal error")
}

// refusedToken says of a token that it is not valid only where that is known; nil if there is no error.
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

// ownFault reports whether the message itself was refused: others behind it may still be accepted.
func ownFault(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.OutOfRange, codes.PermissionDenied, codes.NotFound:
		return true
	}
	return false
}

// resultFrame is {"id":7,"<name>":…}.
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

// errorFrame refuses the frame with the id; 0 leaves it out.
func errorFrame(id int64, r *refusal) []byte { return resultFrame(id, "error", r) }

// pushFrame is {"push":…}.
func pushFrame(value any) []byte { return resultFrame(0, "push", value) }

// withoutPos is the push without its position, for clients whose cursor must not move yet.
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
