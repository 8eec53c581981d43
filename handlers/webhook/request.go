package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"millrace/events"
)

// body is the JSON of a request, as Standard Webhooks recommends it.
type body struct {
	Type      events.Type `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	// Pos is the event's position, by which receivers can put the events of a conversation in order.
	Pos string `json:"pos,omitempty"`
	// Replayed says that the event comes after later ones of its conversation, because it was in the poison queue first.
	Replayed bool `json:"replayed,omitempty"`
	// Data is the event as it stands on the topic.
	Data json.RawMessage `json:"data"`
}

// payload returns the body of the request for the record. The error is permanent.
func payload(r *events.Record) ([]byte, error) {
	for _, c := range []byte(r.EventID) {
		if c <= ' ' || c > '~' {
			return nil, events.Permanent(fmt.Errorf("event_id %q cannot be sent as a header", r.EventID))
		}
	}
	data, err := events.Encode(&r.Event)
	if err != nil {
		return nil, events.Permanent(err)
	}
	encoded, err := json.Marshal(body{
		Type: r.Type, Timestamp: time.Unix(r.Timestamp, 0).UTC(), Pos: r.Position.String(), Replayed: r.Replay, Data: data,
	})
	return encoded, events.Permanent(err)
}

// answer is what the endpoint has said.
type answer struct {
	status     int
	retryAfter time.Duration // 0: it does not say
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// permanent reports whether the endpoint will never take the event.
func (a answer) permanent() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusGone:
		return false
	}
	return a.status >= 400 && a.status < 500
}

func (a answer) err() error {
	redirect := ""
	if a.status >= 300 && a.status < 400 {
		redirect = ", and redirects are not followed"
	}
	return fmt.Errorf("the endpoint has answered %d %s%s", a.status, http.StatusText(a.status), redirect)
}

// post sends the body, signed, and returns the answer. No error contains the URL.
func post(ctx context.Context, client *http.Client, e *Endpoint, id string, body []byte) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, withoutURL(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "millrace-webhook")
	e.Keys.Sign(request.Header, id, time.Now(), body)
	response, err := client.Do(request)
	if err != nil {
		return answer{}, withoutURL(err)
	}
	defer response.Body.Close()
	// The status says all. What fails here costs the connection, not the event.
	_, _ = io.CopyN(io.Discard, response.Body, maxResponseBytes)
	return answer{response.StatusCode, retryAfter(response.Header.Get("Retry-After"), time.Now())}, nil
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds or a time. It returns 0 if that is in the past or
// neither of them.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		return time.Duration(max(0, min(seconds, int64(longestWish/time.Second)))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), longestWish))
}

// withoutURL returns the error without the URL, which may hold a token, and short, because the endpoint has a say in it.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if text := err.Error(); len(text) > maxErrorBytes {
		return errors.New(text[:maxErrorBytes])
	}
	return err
}

const maxErrorBytes = 300

// Pinged is the outcome of a [Ping].
type Pinged struct {
	Status string
	OK     bool
	Took   time.Duration
}

// Ping sends the endpoint a signed event of the type "ping", which is about nothing.
func Ping(ctx context.Context, e Endpoint, id string) (Pinged, error) {
	begin := time.Now()
	encoded, err := json.Marshal(body{Type: "ping", Timestamp: begin.UTC().Truncate(time.Second), Data: json.RawMessage("{}")})
	if err != nil {
		return Pinged{}, err
	}
	client := newClient(&e, nil)
	defer client.CloseIdleConnections()
	a, err := post(ctx, client, &e, id, encoded)
	if err != nil {
		return Pinged{}, err
	}
	return Pinged{fmt.Sprint(a.status, " ", http.StatusText(a.status)), a.ok(), time.Since(begin)}, nil
}
