package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// topic keeps what is published on it.
type topic struct {
	mu        sync.Mutex
	published []*message.Message
	err       error
}

func (t *topic) Publish(name string, msgs ...*message.Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name != events.TopicSystem {
		return errors.New("not the topic of operators")
	}
	t.published = append(t.published, msgs...)
	return t.err
}

func (t *topic) Close() error { return nil }

// calls returns the calls that were recorded.
func (t *topic) calls(test *testing.T) (calls []events.Call) {
	test.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, msg := range t.published {
		e, err := events.Decode(events.TopicSystem, events.Position{Seq: 1}, msg.Payload)
		require.NoError(test, err)
		require.Equal(test, events.OperatorCalled, e.Type)
		require.Equal(test, e.EventID, msg.Metadata.Get(events.CorrelationHeader))
		calls = append(calls, *e.Call)
	}
	return calls
}

// correlated is a message service that keeps the correlation ids of what it is asked to send.
type correlated struct {
	millracev1.UnimplementedMessageServiceServer
	ids []string
}

func (c *correlated) SendWSMessage(ctx context.Context, _ *millracev1.SendWSMessageRequest) (*millracev1.SendWSMessageResponse, error) {
	c.ids = append(c.ids, events.Correlation(ctx))
	return &millracev1.SendWSMessageResponse{}, nil
}

func TestCallsByAdminsAreRecordedBeforeTheyAreMadeWithoutContents(t *testing.T) {
	c, m, l, published := newCallers(t), &correlated{}, &life{}, &topic{}
	h := c.serve(t, Config{Publisher: published}, &Service{Messages: m, Store: l})
	send := `{"from":1,"to":2,"content":"secret","client_msg_id":"k","mentions":[3,4],"extra":{"a":"secret"}}`
	for _, key := range []string{"send", "admin"} {
		code, body := c.ask(h, key, "POST", "/v1/messages", send)
		require.Equal(t, 200, code, body)
	}
	require.Len(t, published.calls(t), 1, "the key that only sends is no admin's")
	require.Equal(t, []string{"", published.published[0].UUID}, m.ids)
	for path, want := range map[string]events.Call{
		"/v1/users/1/blocked": {Method: "/millrace.api.v1.ApiService/ListBlocked", Target: map[string]string{"user": "1"}},
		"/v1/poison?filter.handler=storage&filter.ids=0:1&filter.ids=0:2&limit=2000": {
			Method: "/millrace.api.v1.OperatorService/ListPoisoned",
			Target: map[string]string{"filter.handler": "storage", "filter.ids": "0:1,0:2", "limit": "2000"},
		},
		"/v1/handlers":        {Method: "/millrace.api.v1.OperatorService/ListHandlers"},
		"/v1/users/1/export":  {Method: "GET /v1/users/{user}/export", Target: map[string]string{"user": "1"}},
		"/v1/poison/" + "0:9": {Method: "/millrace.api.v1.OperatorService/GetPoisoned", Target: map[string]string{"id": "0:9"}},
	} {
		published.published = nil
		c.ask(h, "admin", "GET", path, "")
		want.Key = "admin"
		require.Equal(t, []events.Call{want}, published.calls(t), path)
	}
	published.published = nil
	c.ask(h, "admin", "POST", "/v1/messages", send)
	require.NotContains(t, string(published.published[0].Payload), "secret")
	require.Equal(t, map[string]string{"from": "1", "to": "2", "client_msg_id": "k", "mentions": "3,4"}, published.calls(t)[0].Target)
	for _, refused := range []string{"read", "send"} {
		published.published = nil
		code, _ := c.ask(h, refused, "GET", "/v1/users/1/export", "")
		require.Equal(t, 403, code)
		require.Empty(t, published.published)
	}
}

func TestACallThatCannotBeRecordedIsNotMade(t *testing.T) {
	c, m, published := newCallers(t), &correlated{}, &topic{err: errors.New("no broker")}
	h := c.serve(t, Config{Publisher: published}, &Service{Messages: m, Store: &life{}})
	for method, path := range map[string]string{"POST": "/v1/messages", "GET": "/v1/users/1/export"} {
		code, body := c.ask(h, "admin", method, path, "")
		require.Equal(t, 503, code, body)
		var got refusal
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		require.Equal(t, "unavailable", got.Error.Code)
		require.NotContains(t, body, "no broker")
	}
	require.Empty(t, m.ids)
	code, _ := c.ask(h, "send", "POST", "/v1/messages", `{"from":1,"to":2,"content":"x"}`)
	require.Equal(t, 200, code, "nobody records this one")
}

// Whoever adds a parameter that is a text says here that it is withheld, or in toldTexts that it is recorded.
func TestEveryTextParameterOfACallIsEitherRecordedOrWithheld(t *testing.T) {
	withheld := []protoreflect.Name{"content", "name", "next"}
	requests := 0
	for _, desc := range services() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
		require.NoError(t, err)
		service, ok := d.(protoreflect.ServiceDescriptor)
		require.True(t, ok)
		for i := range service.Methods().Len() {
			requests++
			for field := range texts(service.Methods().Get(i).Input()) {
				require.NotEqual(t, slices.Contains(withheld, field.Name()), slices.Contains(toldTexts(), field.Name()), field.FullName())
			}
		}
	}
	require.Greater(t, requests, 20)
}

// texts returns the fields that hold texts, also those of messages of the contract within.
func texts(m protoreflect.MessageDescriptor) map[protoreflect.FieldDescriptor]bool {
	found := map[protoreflect.FieldDescriptor]bool{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		switch {
		case f.Kind() == protoreflect.StringKind && !f.IsMap():
			found[f] = true
		case f.Kind() == protoreflect.MessageKind && f.Message().Parent() == m.Parent():
			for inner := range texts(f.Message()) {
				found[inner] = true
			}
		}
	}
	return found
}

func TestAParameterThatIsTooLongIsCutBetweenCharacters(t *testing.T) {
	for _, value := range []string{strings.Repeat("ü", events.MaxCallTargetBytes), "x" + strings.Repeat("ü", events.MaxCallTargetBytes)} {
		got := cut(value)
		require.LessOrEqual(t, len(got), events.MaxCallTargetBytes)
		require.True(t, strings.HasSuffix(got, "bytes)") && !strings.Contains(got, "\uFFFD"), got[len(got)-40:])
	}
	require.Equal(t, "a\uFFFDb", cut("a\xffb"))
	require.Empty(t, targetOf(proto.Message(nil)))
}
