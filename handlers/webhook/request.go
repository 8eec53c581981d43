package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
	// Notify names those of the endpoint who, by the rules, want to be notified of the event.
	Notify []string `json:"notify,omitempty"`
	// Data is the event as it stands on the topic.
	Data json.RawMessage `json:"data"`
}

// payload returns the body of the request for the record. The error is permanent.
func payload(r *events.Record, notify []string) ([]byte, error) {
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
		Type: r.Type, Timestamp: time.Unix(r.Timestamp, 0).UTC(), Pos: r.Position.String(), Replayed: r.Replay, Notify: notify, Data: data,
	})
	return encoded, events.Permanent(err)
}

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
	response, err := post(ctx, client, &e, id, encoded)
	if err != nil {
		return Pinged{}, withoutURL(err)
	}
	a := readAnswer(response)
	return Pinged{fmt.Sprint(a.Status, " ", http.StatusText(a.Status)), a.OK(), time.Since(begin)}, nil
}

// Envelope returns the body of a request that tells something else than an event of the log.
func Envelope(kind string, at time.Time, data any) ([]byte, error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(body{Type: events.Type(kind), Timestamp: at.UTC(), Data: encoded})
}
