package api

import (
	"context"
	"log/slog"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
)

// streams lets in the requests whose responses go on for long: those that their keys permit, and few at once.
type streams struct {
	call       string          // the name of the request
	what       string          // what its responses are
	stopping   context.Context // ends when the server stops
	running    chan struct{}   // has an element for each request
	operations *operations
	log        *slog.Logger
}

func newStreams(stopping context.Context, call, what string, most int, operations *operations, log *slog.Logger) *streams {
	return &streams{call: call, what: what, stopping: stopping, running: make(chan struct{}, most), operations: operations, log: log}
}

// admit returns the context for a request, which ends when the server stops too, and a function to call when its response
// ends. If it reports false, the request is refused, and is responded to.
func (s *streams) admit(
	w http.ResponseWriter, r *http.Request, needed auth.Scope, target map[string]string,
) (ctx context.Context, leave func(), ok bool) {
	ctx = r.Context()
	key, _ := caller(ctx)
	if !key.Permits(needed) {
		s.log.WarnContext(ctx, "a call that the key does not permit", "key", key.Name, "call", s.call)
		refuse(w, r, codes.PermissionDenied, "the key "+key.Name+" does not have the scope "+string(needed))
		return nil, nil, false
	}
	ctx, err := s.operations.record(ctx, key, s.call, target)
	if err != nil {
		refuse(w, r, status.Code(err), status.Convert(err).Message())
		return nil, nil, false
	}
	select {
	case s.running <- struct{}{}:
	default:
		refuse(w, r, codes.ResourceExhausted, "too many "+s.what+" at once")
		return nil, nil, false
	}
	if key.Permits(auth.ScopeAdmin) {
		s.log.InfoContext(ctx, "a call by an admin key", "key", key.Name, "call", s.call)
	}
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(s.stopping, cancel)
	return ctx, func() {
		forget()
		cancel()
		<-s.running
	}, true
}
