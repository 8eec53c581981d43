package client

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

func TestCloseCodesDecideHowTheClientComesBack(t *testing.T) {
	tests := map[int]struct {
		token  string
		within time.Duration
	}{
		CloseNormal:          {"token-1", 100 * time.Millisecond},
		CloseGoingAway:       {"token-1", 5 * time.Second},
		CloseUnauthenticated: {"token-2", 100 * time.Millisecond},
		CloseTokenExpired:    {"token-2", 100 * time.Millisecond},
		CloseTooSlow:         {"token-1", 100 * time.Millisecond},
		CloseTooMany:         {"token-1", 100 * time.Millisecond},
	}
	for code, tt := range tests {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *server) {
				_, p := dialed(t, s, nil)
				start := time.Now()
				p.closes(code)
				r := s.accept().connect(`{"0":10}`)
				require.LessOrEqual(t, time.Since(start), tt.within)
				require.Equal(t, tt.token, r.Token)
				require.Equal(t, Cursor{0: 10, 7: 70}, r.Cursor)
			})
		})
	}
}

func TestGoingAwayServerIsLeftAtDifferentTimes(t *testing.T) {
	var latest time.Duration
	for range 20 {
		bubble(t, func(t *testing.T, s *server) {
			c, p := dialed(t, s, nil)
			p.closes(CloseGoingAway)
			s.accept().connect(`{}`)
			synctest.Wait()
			require.Less(t, c.waits[0], 5*time.Second)
			latest = max(latest, c.waits[0])
		})
	}
	require.Greater(t, latest, time.Second, "chance alone does this once in 10^14")
}

func TestClientThatIsReplacedOrDisconnectedStops(t *testing.T) {
	for code, want := range map[int]error{CloseReplaced: ErrReplaced, CloseDisconnected: ErrDisconnected} {
		bubble(t, func(t *testing.T, s *server) {
			c, p := dialed(t, s, nil)
			sending := c.Post(t.Context(), Send{Target: ToUser(1002), Content: "x"})
			p.message()
			p.closes(code)
			<-c.Done()
			require.ErrorIs(t, c.Err(), want)
			_, err := sending.Wait()
			require.ErrorIs(t, err, want)
		})
	}
}

func TestClientStopsWhenNewTokensAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		p.closes(CloseTokenExpired)
		for range maxRefusedTokens {
			p = s.accept()
			id, _, _ := p.next()
			p.refuses(id, Unauthenticated)
		}
		<-c.Done()
		require.ErrorIs(t, c.Err(), ErrRefused)
		require.ErrorIs(t, c.Err(), &Error{Code: Unauthenticated})
		require.Equal(t, 1+maxRefusedTokens, c.tokens)
	})
}

func TestAttemptsComeEverLessOftenUntilTheServerIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		s.down.Store(true)
		p.end()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for i, wait := range c.waits {
			longest := min(10*time.Second, 100*time.Millisecond<<min(i, 10))
			require.GreaterOrEqual(t, wait, longest/2)
			require.LessOrEqual(t, wait, longest)
		}
		require.Greater(t, len(c.waits), 20)
		s.down.Store(false)
		p = s.accept()
		p.connect(`{}`)
		time.Sleep(settled)
		synctest.Wait()
		p.end()
		s.accept().connect(`{}`)
		synctest.Wait()
		require.LessOrEqual(t, c.waits[len(c.waits)-1], 100*time.Millisecond, "after a connection that held it begins anew")
	})
}

func TestSilentServerIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		start := time.Now()
		for range 10 {
			time.Sleep(25 * time.Second)
			require.NoError(t, p.ws.WriteControl(websocket.PingMessage, nil, time.Time{}))
		}
		synctest.Wait()
		require.Len(t, c.connected, 1, "pings keep it")
		require.Equal(t, 250*time.Second, time.Since(start))

		start = time.Now()
		s.accept().connect(`{}`)
		require.InDelta(t, 62.5, time.Since(start).Seconds(), 0.2)
	})
}

func TestPingsAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		_, p := dialed(t, s, nil)
		pong := make(chan string, 1)
		p.ws.SetPongHandler(func(data string) error { pong <- data; return nil })
		require.NoError(t, p.ws.WriteControl(websocket.PingMessage, []byte("there?"), time.Time{}))
		require.Equal(t, "there?", <-pong)
	})
}

func TestGarbageEndsTheConnection(t *testing.T) {
	for name, write := range map[string]func(p *peer){
		"no JSON":   func(p *peer) { p.writes(`{"push":`) },
		"binary":    func(p *peer) { require.NoError(p.t, p.ws.WriteMessage(websocket.BinaryMessage, []byte("{}"))) },
		"bad types": func(p *peer) { p.writes(`{"id":"seven","ok":{}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *server) {
				_, p := dialed(t, s, nil)
				write(p)
				s.accept().connect(`{}`)
			})
		})
	}
}

func TestBlockedWriteEndsTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		for range cap(p.in) + 5 { // more than the server takes
			c.Post(t.Context(), Send{Target: ToUser(1002), Content: "x"})
		}
		start := time.Now()
		next := s.accept()
		require.InDelta(t, writeTimeout.Seconds(), time.Since(start).Seconds(), 0.2)
		next.connect(`{}`)
		for range cap(p.in) + 5 {
			id, _ := next.message()
			next.accepts(id)
		}
		for range p.in { // until the first connection's reader has ended
		}
	})
}

func TestUnrecoveredConnectionHandsItsCursor(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		p.end()
		p = s.accept()
		id, _, _ := p.next()
		p.writes(`{"id":%d,"connected":{"user":1001,"cursor":{"0":500},"recovered":false,"complete":true,"ping_seconds":25}}`, id)
		synctest.Wait()
		require.False(t, c.connected[1].Recovered)
		require.Equal(t, Cursor{0: 500}, c.Cursor())
		require.Equal(t, c.connected[1], c.Session())
	})
}

func TestCutEndsAReadWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		accepted := make(chan *peer, 1)
		go func() { accepted <- s.accept() }()
		conn, err := Open(t.Context(), "ws://millrace.test/ws", s.dial, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = conn.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, more := <-(<-accepted).in
		require.False(t, more)
	})
}

func TestChangesAreRepeatedUnderTheSameClientMsgIDOverAnotherConnection(t *testing.T) {
	for _, request := range []Request{
		Edit{Conversation: "u:1001:1002", MessageID: "m", Content: "x"},
		GroupCreate{Name: "n"},
		GroupJoin{GroupID: 7},
		GroupLeave{GroupID: 7},
		GroupAdd{GroupID: 7, User: 1002},
		GroupRemove{GroupID: 7, User: 1002},
	} {
		bubble(t, func(t *testing.T, s *server) {
			c, p := dialed(t, s, nil)
			done := make(chan error, 1)
			go func() {
				if _, ok := request.(Edit); ok {
					done <- c.Do(t.Context(), request)
					return
				}
				_, err := c.Group(t.Context(), request)
				done <- err
			}()
			_, _, first := p.next()
			require.Contains(t, first, `"client_msg_id":"`)
			p.end()
			p = s.accept()
			p.connect(`{}`)
			id, _, again := p.next()
			require.Equal(t, first, again)
			p.writes(`{"id":%d,"ok":{}}`, id)
			require.NoError(t, <-done)
		})
	}
}
