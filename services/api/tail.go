package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/pubsub"
)

const (
	// tailPause is the pause between looks at the end of the log, and maxTails how many requests look at once.
	tailPause = 300 * time.Millisecond
	maxTails  = 16
	// maxBehind is how many records a tail reads at one look. It skips what is beyond, and says so.
	maxBehind = 1000
)

// tail streams the events of message-events as they come, as server-sent events. Query parameters select: user,
// conversation and type. Contents are left out unless contents=true, which takes the scope admin. A tail shows what happens;
// it may skip events and guarantees nothing.
type tail struct {
	bus     pubsub.Bus
	streams *streams
}

func newTail(stopping context.Context, bus pubsub.Bus, operations *operations, log *slog.Logger) *tail {
	return &tail{bus, newStreams(stopping, "GET /v1/events", "tails", maxTails, operations, log)}
}

// selection says which events a tail shows.
type selection struct {
	user         int64
	conversation string
	kind         events.Type
	contents     bool
}

func (t *tail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s := selection{conversation: query.Get("conversation"), kind: events.Type(query.Get("type")), contents: query.Get("contents") == "true"}
	if user := query.Get("user"); user != "" {
		var err error
		if s.user, err = strconv.ParseInt(user, 10, 64); err != nil {
			refuse(w, r, codes.InvalidArgument, "user is no number")
			return
		}
	}
	needed := auth.ScopeRead
	if s.contents {
		needed = auth.ScopeAdmin
	}
	ctx, leave, ok := t.streams.admit(w, r, needed, s.target())
	if !ok {
		return
	}
	defer leave()
	log := t.bus.Log(events.TopicMessages)
	at, err := log.End(ctx)
	if err != nil {
		refuse(w, r, codes.Unavailable, "the log cannot be read")
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // it goes on until the client ends it
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprint(w, "event: begun\ndata: 0\n\n")
	for err == nil {
		if err = control.Flush(); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tailPause):
		}
		err = s.follow(ctx, w, log, at)
	}
	if ctx.Err() == nil {
		_, _ = fmt.Fprintf(w, "event: fault\ndata: %q\n\n", err.Error())
	}
}

// target returns what the tail is about, as the log of operations has it.
func (s *selection) target() map[string]string {
	target := map[string]string{}
	for name, value := range map[string]string{"conversation": s.conversation, "type": string(s.kind)} {
		if value != "" {
			target[name] = cut(value)
		}
	}
	if s.user != 0 {
		target["user"] = strconv.FormatInt(s.user, 10)
	}
	if s.contents {
		target["contents"] = "true"
	}
	return target
}

// follow writes what has come after the positions, and moves them on.
func (s *selection) follow(ctx context.Context, w http.ResponseWriter, log pubsub.Log, at map[int32]int64) error {
	end, err := log.End(ctx)
	if err != nil {
		return err
	}
	var ranges []events.Range
	for p, through := range end {
		next := events.Range{Partition: p, After: at[p], Through: through}
		if skipped := next.Len() - maxBehind; skipped > 0 {
			next.After = through - maxBehind
			if _, err := fmt.Fprintf(w, "event: skipped\ndata: %d\n\n", skipped); err != nil {
				return err
			}
		}
		if next.After < through {
			ranges = append(ranges, next)
		}
		at[p] = through
	}
	return log.Read(ctx, ranges, func(r pubsub.RawRecord) error {
		shown, ok := s.show(r)
		if !ok {
			return nil
		}
		data, err := json.Marshal(shown)
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		}
		return err
	})
}

// shownEvent is an event as a tail shows it.
type shownEvent struct {
	Pos           string       `json:"pos"`
	CorrelationID string       `json:"correlation_id,omitempty"`
	Fault         string       `json:"fault,omitempty"` // why the record is none
	Event         events.Event `json:"event"`
}

// show returns the record as the tail shows it, and whether it is selected.
func (s *selection) show(r pubsub.RawRecord) (shownEvent, bool) {
	e, err := events.Decode(events.TopicMessages, r.Position, r.Value)
	shown := shownEvent{Pos: r.Position.String(), CorrelationID: r.Headers.Get(events.CorrelationHeader), Event: e}
	if err != nil {
		shown.Fault, shown.Event = err.Error(), events.Event{Type: e.Type}
	}
	if s.kind != "" && s.kind != e.Type || s.conversation != "" && s.conversation != e.ConversationKey() || s.user != 0 && !concerns(&e, s.user) {
		return shown, false
	}
	if !s.contents {
		shown.Event.Content, shown.Event.Extra = "", nil
		if e.Message != nil {
			masked := *e.Message
			masked.Content, masked.Extra = "", nil
			shown.Event.Message = &masked
		}
	}
	return shown, true
}

// concerns reports whether the event names the user.
func concerns(e *events.Event, user int64) bool {
	m := e.Message
	return e.User == user || e.By == user || m != nil && (m.From == user || m.To == user)
}
