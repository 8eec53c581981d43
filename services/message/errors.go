package message

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/store"
)

// callerError is an error that is the caller's own fault: trying again does not help.
type callerError struct {
	code   codes.Code
	reason string
}

func (r *callerError) Error() string { return r.reason }

func refuse(code codes.Code, format string, args ...any) error {
	return &callerError{code, fmt.Sprintf(format, args...)}
}

// errNoGroup is the error for everything that a user who is no member asks about a group, whether or not the group exists.
var errNoGroup = refuse(codes.NotFound, "no such group")

// codeOf is the only mapping of errors to codes. An error that is not the caller's fault is transient, which is UNAVAILABLE.
func codeOf(err error) codes.Code {
	var refused *callerError
	var invalid *events.InvalidError
	switch {
	case err == nil:
		return codes.OK
	case errors.As(err, &refused):
		return refused.code
	case errors.As(err, &invalid):
		return codes.InvalidArgument
	case errors.Is(err, store.ErrNotFound):
		return codes.NotFound
	}
	return codes.Unavailable
}

// statusOf returns the error as a status. It leaves a status alone, because that comes from the stream.
func statusOf(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codeOf(err), textOf(err))
}

// textOf returns the text for the caller: what is wrong with the request, without where that was found.
func textOf(err error) string {
	var invalid *events.InvalidError
	if errors.As(err, &invalid) {
		return invalid.Reason
	}
	return err.Error()
}

func answer[T any](response *T, err error) (*T, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	return response, nil
}
