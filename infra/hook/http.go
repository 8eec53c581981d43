package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"millrace/events"
	"millrace/infra/signature"
)

const (
	// maxConns bounds the requests to the receiver at one time. Further ones wait for these within their time.
	maxConns = 64
	// maxAnswer bounds what is read of an answer. A frame of a gateway has less content than that.
	maxAnswer = 4 << 20
)

// HTTP asks an HTTP endpoint: one POST with all drafts, signed by the convention of Standard Webhooks. It does not repeat a
// request that has failed.
type HTTP struct {
	url    string
	keys   signature.Keys
	client *http.Client
}

// NewHTTP returns a hook that asks the endpoint. Close it at the end.
func NewHTTP(endpoint string, keys signature.Keys) *HTTP {
	return &HTTP{url: endpoint, keys: keys, client: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns,
			IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		// The signature is meant for this endpoint alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that wait for requests.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }

// request is the body of a request.
type request struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      requestData `json:"data"`
}

type requestData struct {
	Messages []asked `json:"messages"`
}

// asked is a draft in a request.
type asked struct {
	MessageID    string       `json:"message_id"`
	Conversation string       `json:"conversation"`
	From         int64        `json:"from"`
	To           int64        `json:"to,omitempty"`
	GroupID      int64        `json:"group_id,omitempty"`
	Content      string       `json:"content"`
	MessageType  int32        `json:"message_type"`
	Extra        events.Extra `json:"extra,omitempty"`
	Edit         bool         `json:"edit,omitempty"`
	UserType     string       `json:"user_type,omitempty"`
	Region       string       `json:"region,omitempty"`
	Tags         []string     `json:"tags,omitempty"`
}

// response is the body of an answer. What is not known there is an error: a misspelled verdict must not let a message pass.
type response struct {
	Verdicts []struct {
		Reject  string       `json:"reject"`
		Content string       `json:"content"`
		Extra   events.Extra `json:"extra"`
	} `json:"verdicts"`
}

// Review asks the endpoint about all drafts at once.
func (h *HTTP) Review(ctx context.Context, drafts []Draft) ([]Verdict, error) {
	now := time.Now()
	messages := make([]asked, len(drafts))
	for i, d := range drafts {
		m := d.Message
		messages[i] = asked{
			MessageID: m.MessageID, Conversation: m.Conversation, From: m.From, To: m.To, GroupID: m.GroupID,
			Content: m.Content, MessageType: m.MessageType, Extra: m.Extra, Edit: d.Edit, UserType: d.UserType, Region: d.Region, Tags: d.Tags,
		}
	}
	body, err := json.Marshal(request{Type: "message.review", Timestamp: now.UTC(), Data: requestData{messages}})
	if err != nil {
		return nil, err
	}
	answer, err := h.post(ctx, now, body)
	if err != nil {
		return nil, err
	}
	return verdictsIn(answer)
}

// verdictsIn reads the body of an answer.
func verdictsIn(answer []byte) ([]Verdict, error) {
	var r response
	if err := jsonv2.Unmarshal(answer, &r, jsonv2.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	verdicts := make([]Verdict, len(r.Verdicts))
	for i, v := range r.Verdicts {
		verdicts[i] = Verdict{Reject: v.Reject, Content: v.Content, Extra: v.Extra}
	}
	return verdicts, nil
}

// post returns the body of the answer. No error shows the endpoint, which may hold a password.
func (h *HTTP) post(ctx context.Context, now time.Time, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	r.Header.Set("Content-Type", "application/json")
	h.keys.Sign(r.Header, "msg_"+rand.Text(), now, body)
	answer, err := h.client.Do(r)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", answer.StatusCode)
	}
	got, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if len(got) > maxAnswer {
		return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return got, nil
}

// withoutURL returns what is wrong, without the URL that net/http names with it.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
