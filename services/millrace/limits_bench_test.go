package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/infra/store/sqlite"
	"millrace/services/client"
	"millrace/services/client/clienttest"
	"millrace/services/message"
	"millrace/services/millrace/proof"
)

// pair is two clients of a server.
type pair struct {
	*client.Client
	to          int64
	arrived     chan time.Time // when the second one was pushed a message
	acks, whole []time.Duration
}

func newPair(b *testing.B, number int, url string, token func(user int64) func(context.Context) (string, error)) *pair {
	p := &pair{to: int64(2*number + 2), arrived: make(chan time.Time, 1)}
	dial := func(user int64, onPush func(client.Push)) *client.Client {
		c, err := client.Dial(b.Context(), client.Config{
			URL: url, Token: token(user), OnPush: onPush, OnViolation: func(what string) { b.Error(what) },
		})
		require.NoError(b, err)
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial(p.to, func(push client.Push) {
		if push.Type == events.NewMessage {
			p.arrived <- time.Now()
		}
	})
	p.Client = dial(p.to-1, nil)
	return p
}

// exchange sends a message and waits until it was accepted and has arrived.
func (p *pair) exchange(b *testing.B) {
	begin := time.Now()
	_, err := p.Send(b.Context(), client.Send{Target: client.ToUser(p.to), Content: "hello"})
	require.NoError(b, err)
	p.acks = append(p.acks, time.Since(begin))
	p.whole = append(p.whole, (<-p.arrived).Sub(begin))
}

// BenchmarkPathAgainstTheSameDoneSynchronously compares a message on its way through the whole system with a server in one process
// that stores it in the same store, then pushes it, and then answers: without a log, without handlers and without a second
// hop. What both stores do takes longer by 0, 5 and 20 ms. All take turns.
func BenchmarkPathAgainstTheSameDoneSynchronously(b *testing.B) {
	var delay atomic.Int64
	d := startDevWith(b, b.TempDir(), fx.Decorate(func(w storage.Store, r message.Store) (storage.Store, message.Store) {
		s := &slowStore{w, r, &delay}
		return s, s
	}))
	sync := synchronousServer(b, &delay)
	delays := []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond}
	ours, theirs := make([]*pair, len(delays)), make([]*pair, len(delays))
	for i := range delays {
		ours[i] = newPair(b, i, d.url(), proof.Token)
		theirs[i] = newPair(b, i, sync, func(user int64) func(context.Context) (string, error) {
			return func(context.Context) (string, error) { return strconv.FormatInt(user, 10), nil }
		})
	}
	for b.Loop() {
		for i := range delays {
			delay.Store(int64(delays[i]))
			for range 20 {
				ours[i].exchange(b)
				theirs[i].exchange(b)
			}
		}
	}
	for i := range delays {
		for what, took := range map[string][2][]time.Duration{
			"ack": {ours[i].acks, theirs[i].acks}, "delivery": {ours[i].whole, theirs[i].whole},
		} {
			p50 := func(all []time.Duration) time.Duration { slices.Sort(all); return all[len(all)/2] }
			b.ReportMetric(float64(p50(took[0]).Microseconds()), fmt.Sprintf("%s-µs/%v", what, delays[i]))
			b.ReportMetric(p50(took[1]).Seconds()/p50(took[0]).Seconds(), fmt.Sprintf("%s-share/%v", what, delays[i]))
		}
	}
}

// synchronousServer returns the URL of a server that answers a send once it has stored and pushed the message.
func synchronousServer(b *testing.B, delay *atomic.Int64) string {
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "store.db"))
	require.NoError(b, err)
	f := clienttest.New(b)
	f.Deliver = func(user int64, m client.Message) []client.Message {
		if user != m.From { // it is called once for each
			return []client.Message{m}
		}
		time.Sleep(time.Duration(delay.Load()))
		conversation := events.Direct(m.From, m.To)
		r := events.Record{
			Position: events.Position{Seq: m.Seq},
			Event: events.Event{Type: events.NewMessage, Message: &events.Message{
				MessageID: m.MessageID, ClientMsgID: m.ClientMsgID, Conversation: conversation, From: m.From, To: m.To,
				Content: m.Content, MessageType: m.MessageType, Timestamp: m.Timestamp,
			}},
		}
		require.NoError(b, db.SaveBatch(b.Context(), []events.Record{r})[0])
		return []client.Message{m}
	}
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return f.WebSocket()
}

// BenchmarkGatewayAgainstABareEcho compares a request that the gateway answers by itself with a frame that a bare gorilla server
// sends back. The share is how much of the gateway's time the echo needs.
func BenchmarkGatewayAgainstABareEcho(b *testing.B) {
	const connections = 100
	d := startDev(b, b.TempDir())
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		for {
			kind, text, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, text) != nil {
				return
			}
		}
	}))
	b.Cleanup(echo.Close)
	ours, theirs := dialAll(b, d.url(), connections), dialAll(b, strings.Replace(echo.URL, "http", "ws", 1), connections)
	for i, ws := range ours {
		token, err := proof.Token(int64(1001 + i))(b.Context())
		require.NoError(b, err)
		require.NoError(b, ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{"token":"`+token+`"}}`)))
		_, answer, err := ws.ReadMessage()
		require.NoError(b, err)
		require.Contains(b, string(answer), `"connected"`)
	}
	var gateway, bare time.Duration
	for b.Loop() {
		gateway += askAll(b, ours)
		bare += askAll(b, theirs)
	}
	b.ReportMetric(gateway.Seconds()*1e6/float64(b.N*connections), "µs/request/gateway")
	b.ReportMetric(bare.Seconds()*1e6/float64(b.N*connections), "µs/request/echo")
	b.ReportMetric(bare.Seconds()/gateway.Seconds(), "share")
}

func dialAll(b *testing.B, url string, n int) []*websocket.Conn {
	all := make([]*websocket.Conn, n)
	for i := range all {
		ws, response, err := websocket.DefaultDialer.DialContext(b.Context(), url, nil)
		require.NoError(b, err)
		require.NoError(b, response.Body.Close())
		b.Cleanup(func() { _ = ws.Close() })
		all[i] = ws
	}
	return all
}

// askAll sends a request on every connection and waits for all answers.
func askAll(b *testing.B, all []*websocket.Conn) time.Duration {
	begin := time.Now()
	for _, ws := range all {
		require.NoError(b, ws.WriteMessage(websocket.TextMessage, []byte(`{"id":2,"ping":{}}`)))
	}
	for _, ws := range all {
		_, _, err := ws.ReadMessage()
		require.NoError(b, err)
	}
	return time.Since(begin)
}
