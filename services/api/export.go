package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	"millrace/infra/auth"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxExports is how many requests export at once, and exportPage how many messages one reads at a time.
	maxExports = 4
	exportPage = 200
	// exportPause is how long a client may take to read a page.
	exportPause = time.Minute
)

// exports streams what the system has of a user, as NDJSON: a JSON object a line, each with one member that names what it is.
// The last line is an `end`, or an `error` if it could not go on. It takes the scope admin.
type exports struct {
	service *Service
	streams *streams
}

func newExports(stopping context.Context, service *Service, operations *operations, log *slog.Logger) *exports {
	return &exports{service, newStreams(stopping, "GET /v1/users/{user}/export", "exports", maxExports, operations, log)}
}

func (x *exports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, err := strconv.ParseInt(r.PathValue("user"), 10, 64)
	if err == nil {
		err = checkID("user", user)
	}
	if err != nil {
		refuse(w, r, codes.InvalidArgument, "user is none")
		return
	}
	ctx, leave, ok := x.streams.admit(w, r, auth.ScopeAdmin, map[string]string{"user": strconv.FormatInt(user, 10)})
	if !ok {
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "application/x-ndjson")
	e := &export{service: x.service, user: user, to: w, control: http.NewResponseController(w)}
	if err = e.run(ctx); err == nil {
		err = e.line("end", map[string]int{"messages": e.messages})
	}
	if err != nil { // the client may have gone
		s := status.Convert(err)
		_, name := outcome(s.Code())
		_ = e.line("error", map[string]string{"code": name, "message": s.Message()})
	}
}

// export is one export that is under way.
type export struct {
	service  *Service
	user     int64
	to       io.Writer
	control  *http.ResponseController
	messages int
}

// run writes all but the last line.
func (e *export) run(ctx context.Context) error {
	if err := e.account(ctx); err != nil {
		return err
	}
	if err := e.conversations(ctx); err != nil {
		return err
	}
	names, err := e.service.Store.Participations(ctx, e.user)
	if err != nil {
		return status.Error(codes.Unavailable, "the store cannot be read")
	}
	for _, name := range names {
		if err := e.history(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// account writes whom the user blocks, and at which push services its browsers are. It leaves out what allows to send to them.
func (e *export) account(ctx context.Context) error {
	blocked, err := e.service.ListBlocked(ctx, &apiv1.ListBlockedRequest{User: e.user})
	if err != nil {
		return err
	}
	for _, user := range blocked.GetUsers() {
		if err := e.line("blocked", map[string]int64{"user": user}); err != nil {
			return err
		}
	}
	browsers, err := e.service.Store.Subscriptions(ctx, []int64{e.user})
	if err != nil {
		return status.Error(codes.Unavailable, "the store cannot be read")
	}
	for _, s := range browsers[e.user] {
		var host string
		if at, err := url.Parse(s.Endpoint); err == nil {
			host = at.Host
		}
		if err := e.line("subscription", map[string]string{"push_service": host}); err != nil {
			return err
		}
	}
	return nil
}

// conversations writes the user's list of conversations with what it has set for each, and the groups in it. A conversation
// that comes to the head of the list meanwhile would be missed, so the list is read until it has nothing new.
func (e *export) conversations(ctx context.Context) error {
	known := map[string]bool{}
	for news := true; news; {
		news = false
		request := &apiv1.ListConversationsRequest{User: e.user, Limit: exportPage}
		for more := true; more; {
			page, err := e.service.ListConversations(ctx, request)
			if err != nil {
				return err
			}
			for _, c := range page.GetConversations() {
				if known[c.GetConversation()] {
					continue
				}
				known[c.GetConversation()], news = true, true
				c.Last = nil
				if err := e.message("conversation", c); err != nil {
					return err
				}
				if err := e.group(ctx, c.GetConversation()); err != nil {
					return err
				}
			}
			more, request.Next = page.GetMore(), page.GetNext()
		}
	}
	return nil
}

// group writes the group of a conversation, if it is one of a group, as the user sees it.
func (e *export) group(ctx context.Context, conversation string) error {
	c, err := events.ParseConversation(conversation)
	if err != nil || c.GroupID == 0 {
		return err
	}
	got, err := e.service.Messages.GetGroup(ctx, &millracev1.GetGroupRequest{User: e.user, GroupId: c.GroupID})
	if status.Code(err) == codes.NotFound { // the user has just left
		return nil
	}
	if err != nil {
		return err
	}
	return e.message("group", group(got.GetGroup()))
}

// history writes all messages of a conversation that the user may read.
func (e *export) history(ctx context.Context, conversation string) error {
	after := int64(0)
	for more := true; more; {
		page, err := e.service.ListMessages(ctx, &apiv1.ListMessagesRequest{
			User: e.user, Conversation: conversation, AfterSeq: &after, Limit: exportPage,
		})
		if err != nil {
			return err
		}
		for _, m := range page.GetMessages() {
			if err := e.message("message", m); err != nil {
				return err
			}
			after = m.GetSeq()
			e.messages++
		}
		more = page.GetMore() && len(page.GetMessages()) > 0
		_ = e.control.SetWriteDeadline(time.Now().Add(exportPause)) // where that is not possible, the server's own deadline holds
		if err := e.control.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (e *export) message(what string, m proto.Message) error {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}
	return e.line(what, jsontext.Value(data))
}

// line writes {"<what>":<value>}.
func (e *export) line(what string, value any) error {
	data, err := json.Marshal(map[string]any{what: value})
	if err != nil {
		return err
	}
	_, err = e.to.Write(append(data, '\n'))
	return err
}
