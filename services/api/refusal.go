package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is what an HTTP client gets for a call that failed: the error of the WebSocket protocol, with its codes.
type refusal struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// outcome returns the HTTP status and the error code of the protocol for a code of gRPC.
func outcome(code codes.Code) (status int, name string) {
	switch code {
	case codes.Unauthenticated:
		return http.StatusUnauthorized, "unauthenticated"
	case codes.PermissionDenied:
		return http.StatusForbidden, "permission_denied"
	case codes.InvalidArgument:
		return http.StatusBadRequest, "invalid_argument"
	case codes.NotFound, codes.Unimplemented: // no such path
		return http.StatusNotFound, "not_found"
	case codes.OutOfRange:
		return http.StatusRequestEntityTooLarge, "too_large"
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests, "rate_limited"
	case codes.FailedPrecondition:
		return http.StatusUnprocessableEntity, "rejected"
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return http.StatusServiceUnavailable, "unavailable"
	}
	return http.StatusInternalServerError, "internal"
}

// refuse responds with an error, in the form of the protocol that the client speaks.
func refuse(w http.ResponseWriter, r *http.Request, code codes.Code, message string) {
	if isGRPC(r) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(code)))
		w.Header().Set("Grpc-Message", url.PathEscape(message))
		w.WriteHeader(http.StatusOK)
		return
	}
	httpStatus, name := outcome(code)
	var body refusal
	body.Error.Code, body.Error.Message = name, message
	w.Header().Set("Content-Type", "application/json")
	if httpStatus == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(httpStatus)
	_ = json.MarshalWrite(w, body) // the client may have gone
}

// refuseCall is how the HTTP gateway responds to a call that failed.
func refuseCall(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	s := status.Convert(err)
	message := s.Message()
	if wrong, ofBody := strings.CutPrefix(message, "proto:"); ofBody {
		message = "malformed body " + strings.TrimLeft(wrong, " \u00a0") // which space it is depends on the build
	}
	refuse(w, r, s.Code(), message)
}

// refusePath is how the HTTP gateway responds to a path or a method that it does not have.
func refusePath(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusMethodNotAllowed:
		refuse(w, r, codes.NotFound, "no such method of this path: "+r.Method)
	case http.StatusBadRequest:
		refuse(w, r, codes.InvalidArgument, "not a request that is understood")
	default:
		refuse(w, r, codes.NotFound, "no such path")
	}
}
