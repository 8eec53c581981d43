package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// maxRecording bounds the calls that wait until the broker has them. Further ones are refused at once.
const maxRecording = 256

// operations publishes the calls by keys that permit everything, for the log of operations.
type operations struct {
	publisher message.Publisher
	slots     *semaphore.Weighted
	log       *slog.Logger
}

func newOperations(publisher message.Publisher, log *slog.Logger) *operations {
	return &operations{publisher: publisher, slots: semaphore.NewWeighted(maxRecording), log: log}
}

// record returns once the broker has the call, if it is one by a key that permits everything, with a context for the call: what the
// call publishes has the id of the call's own record as its correlation id. A call that cannot be recorded must not be made, and
// gets the error, UNAVAILABLE.
func (o *operations) record(ctx context.Context, key auth.APIKey, method string, target map[string]string) (context.Context, error) {
	if !key.Permits(auth.ScopeAdmin) {
		return ctx, nil
	}
	id := rand.Text()
	if err := o.publish(ctx, &events.Event{
		Type: events.OperatorCalled, EventID: id, Timestamp: time.Now().Unix(),
		Call: &events.Call{Key: key.Name, Method: method, Target: target},
	}); err != nil {
		o.log.WarnContext(ctx, "a call by an admin key is refused, because it cannot be recorded", "key", key.Name, "call", method, "error", err)
		return ctx, status.Error(codes.Unavailable, "a call by an admin key must be recorded first, which is not possible now")
	}
	return events.WithCorrelation(ctx, id), nil
}

func (o *operations) publish(ctx context.Context, e *events.Event) error {
	msg, err := pubsub.NewRecord(e)
	if err != nil {
		return err
	}
	msg.Metadata.Set(events.CorrelationHeader, e.EventID)
	telemetry.Carry(ctx, msg)
	if !o.slots.TryAcquire(1) {
		return fmt.Errorf("%d calls wait already", maxRecording)
	}
	defer o.slots.Release(1)
	return o.publisher.Publish(events.TopicSystem, msg)
}

// toldTexts are the parameters of calls which are texts and are recorded, besides all that are numbers. They say what a call is about;
// none holds what users write, or a secret.
func toldTexts() []protoreflect.Name {
	return []protoreflect.Name{
		"client_msg_id", "conversation", "device", "handler", "id", "ids", "message_id", "notice_id", "reason", "region", "reply_to", "role",
		"span", "topic", "user_type", "why",
	}
}

// targetOf returns what the call is about, by the names of its parameters. Those of a filter begin with "filter.".
func targetOf(request any) map[string]string {
	r, ok := request.(proto.Message)
	if !ok {
		return nil
	}
	target := map[string]string{}
	addTarget(target, "", r.ProtoReflect())
	return target
}

func addTarget(target map[string]string, prefix string, m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := prefix + string(f.Name())
		switch {
		case f.Kind() == protoreflect.MessageKind:
			if f.Message().Parent() == m.Descriptor().Parent() && !f.IsList() && !f.IsMap() { // of this contract
				addTarget(target, name+".", v.Message())
			}
		case f.IsMap() || f.Kind() == protoreflect.BytesKind || f.Kind() == protoreflect.StringKind && !slices.Contains(toldTexts(), f.Name()):
		case f.IsList():
			var all []string
			for i := range v.List().Len() {
				all = append(all, fmt.Sprint(v.List().Get(i).Interface()))
			}
			target[name] = cut(strings.Join(all, ","))
		default:
			target[name] = cut(fmt.Sprint(v.Interface()))
		}
		return true
	})
}

// cut returns as much of the value as a record takes, and how long the value is if that is not all of it.
func cut(value string) string {
	value = valid(value)
	if len(value) <= events.MaxCallTargetBytes {
		return value
	}
	rest := fmt.Sprintf("… (%d bytes)", len(value))
	end := events.MaxCallTargetBytes - len(rest)
	for !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end] + rest
}
