package client

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPushesComeInOrderAndEachMessageOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		p.pushes("0:11", "a")
		p.pushes("7:71", "b")
		p.pushes("0:12", "a") // its author has sent it again, and it was accepted twice
		p.writes(`{"push":{"type":"message_edited","pos":"0:13","conversation":"u:1001:1002","message_id":"a","seq":11,"content":"x"}}`)
		p.writes(`{"push":{"type":"typing","from":1002,"to":1001}}`)
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "message_edited", "typing"}, c.pushed)
		require.Equal(t, Cursor{0: 13, 7: 71}, c.Cursor())
		require.Empty(t, c.violations)
	})
}

func TestSeenMessagesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, func(cfg *Config) { cfg.SeenMessages = 2 })
		for i, id := range []string{"a", "b", "c", "a"} {
			p.pushes("0:"+string(rune('1'+i))+"1", id)
		}
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "c", "a"}, c.pushed)
	})
}

func TestAnswersFindTheirRequestsInAnyOrder(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		first := c.Post(t.Context(), Send{Target: ToUser(1002), Content: "1"})
		second := c.Post(t.Context(), Send{Target: ToUser(1002), Content: "2"})
		id1, m1 := p.message()
		id2, m2 := p.message()
		require.Equal(t, []string{"1", "2"}, []string{m1.Content, m2.Content})
		require.NotEmpty(t, m1.ClientMsgID)
		require.NotEqual(t, m1.ClientMsgID, m2.ClientMsgID)
		p.accepts(id2)
		p.refuses(id1, InvalidArgument)
		sent, err := second.Wait()
		require.NoError(t, err)
		require.Equal(t, Sent{MessageID: "m3", Conversation: "u:1001:1002", Timestamp: 1642678800}, sent)
		_, err = first.Wait()
		require.ErrorIs(t, err, &Error{Code: InvalidArgument})
	})
}

func TestAfterABrokenConnectionTheClientResumesAndRepeatsInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		var sendings []*Sending
		for _, content := range []string{"1", "2", "3", "4"} {
			sendings = append(sendings, c.Post(t.Context(), Send{Target: ToUser(1002), Content: content, ClientMsgID: "id" + content}))
		}
		pushed := make(chan error)
		go func() { pushed <- c.Do(t.Context(), Read{Conversation: "u:1001:1002", Seq: 11}) }()
		id, _ := p.message()
		for range 3 {
			p.message()
		}
		p.next()
		p.accepts(id)
		p.pushes("0:11", "a")
		p.end()

		p = s.accept()
		r := p.connect(`{"0":11,"7":70}`)
		require.Equal(t, Cursor{0: 11, 7: 70}, r.Cursor)
		require.Equal(t, "token-1", r.Token, "a good token is kept")
		for _, want := range []string{"2", "3", "4"} {
			id, m := p.message()
			require.Equal(t, Send{Target: ToUser(1002), Content: want, ClientMsgID: "id" + want}, m)
			p.accepts(id)
		}
		id, verb, _ := p.next()
		require.Equal(t, "read", verb)
		p.writes(`{"id":%d,"ok":{}}`, id)
		require.NoError(t, <-pushed)
		for _, s := range sendings {
			_, err := s.Wait()
			require.NoError(t, err)
		}
		require.Len(t, c.connected, 2)
	})
}

func TestUnavailableSendIsRepeatedBeforeThoseBehindIt(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		for _, content := range []string{"1", "2", "3"} {
			c.Post(t.Context(), Send{Target: ToUser(1002), Content: content})
		}
		var ids []int64
		for range 3 {
			id, _ := p.message()
			ids = append(ids, id)
		}
		for _, id := range ids {
			p.refuses(id, Unavailable)
		}
		c.Post(t.Context(), Send{Target: ToUser(1002), Content: "4"})
		other := c.Post(t.Context(), Send{Target: ToUser(1003), Content: "other"})
		id, m := p.message()
		require.Equal(t, "other", m.Content, "another conversation does not wait")
		p.accepts(id)
		_, err := other.Wait()
		require.NoError(t, err)

		id, m = p.message()
		require.Equal(t, "1", m.Content)
		synctest.Wait()
		require.Empty(t, p.in, "the others wait until the first is accepted")
		p.refuses(id, Unavailable)
		for _, want := range []string{"1", "2", "3", "4"} {
			id, m := p.message()
			require.Equal(t, want, m.Content)
			p.accepts(id)
		}
	})
}

func TestWindowBoundsWhatIsInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, func(cfg *Config) { cfg.Window = 1 })
		c.Post(t.Context(), Send{Target: ToUser(1002), Content: "1"})
		c.Post(t.Context(), Send{Target: ToUser(1002), Content: "2"})
		id, _ := p.message()
		synctest.Wait()
		require.Empty(t, p.in)
		p.accepts(id)
		id, m := p.message()
		require.Equal(t, "2", m.Content)
		p.accepts(id)
	})
}

func TestSendEndsWithItsContextAndSaysWhatTheServerSaid(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		go func() {
			for text := range p.in {
				var frame struct {
					ID int64 `json:"id"`
				}
				if json.Unmarshal(text, &frame) == nil {
					p.refuses(frame.ID, Unavailable)
				}
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := c.Send(ctx, Send{Target: ToUser(1002), Content: "x"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, &Error{Code: Unavailable})
		p.end()
		// A send that was given up is not repeated on the next connection.
		p = s.accept()
		p.connect(`{}`)
		synctest.Wait()
		require.Empty(t, p.in)
	})
}

func TestCloseSaysGoodbyeAndEndsWhatIsUnanswered(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		sending := c.Post(t.Context(), Send{Target: ToUser(1002), Content: "x"})
		p.message()
		require.NoError(t, c.Close())
		_, err := sending.Wait()
		require.ErrorIs(t, err, ErrClosed)
		_, err = c.Send(t.Context(), Send{Target: ToUser(1002), Content: "late"})
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, c.Err(), ErrClosed)
		_, more := <-p.in
		require.False(t, more)
		require.ErrorContains(t, p.ended, "1000")
	})
}

func TestCloseWhileThereIsNoConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		s.down.Store(true)
		p.end()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Greater(t, len(c.waits), 5)
		start := time.Now()
		require.NoError(t, c.Close())
		require.Zero(t, time.Since(start))
	})
}

func TestRequestsReturnWhatTheServerAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		answers := map[string]string{
			"history":       `"messages":{"conversation":"u:1001:1002","messages":[{"seq":5,"message_id":"a","from":1002,"content":"x","edited_at":9}],"more":true}`,
			"conversations": `"conversations":{"conversations":[{"conversation":"u:1001:1002","unread":3,"read_seq":4,"last":{"seq":5,"message_id":"a"}}],"more":true,"next":"n2"}`,
			"group_create":  `"group":{"group_id":77,"name":"n","owner":1001,"members":[1001,1002]}`,
			"group_leave":   `"ok":{}`,
			"ping":          `"pong":{}`,
			"presence":      `"presence":{"online":[1002],"last_seen":{"1003":7}}`,
			"edit":          `"error":{"code":"not_found","message":"no such message"}`,
			"recall":        `"surprise":{}`,
		}
		go func() {
			for range len(answers) {
				id, verb, _ := p.next()
				p.writes(`{"id":%d,%s}`, id, answers[verb])
			}
		}()
		page, err := c.History(t.Context(), History{Conversation: "u:1001:1002", Limit: 1})
		require.NoError(t, err)
		require.True(t, page.More)
		require.Equal(t, int64(5), page.Messages[0].Seq)
		require.Equal(t, int64(9), page.Messages[0].EditedAt)
		list, err := c.Conversations(t.Context(), Conversations{})
		require.NoError(t, err)
		require.Equal(t, 3, list.Conversations[0].Unread)
		require.Equal(t, "a", list.Conversations[0].Last.MessageID)
		require.True(t, list.More)
		require.Equal(t, "n2", list.Next)
		group, err := c.Group(t.Context(), GroupCreate{Name: "n", Members: []int64{1002}})
		require.NoError(t, err)
		require.Equal(t, Group{GroupID: 77, Name: "n", Owner: 1001, Members: []int64{1001, 1002}}, group)
		group, err = c.Group(t.Context(), GroupLeave{GroupID: 77})
		require.NoError(t, err)
		require.Zero(t, group)
		require.NoError(t, c.Do(t.Context(), Ping{}))
		presence, err := c.Presence(t.Context(), 1002)
		require.NoError(t, err)
		require.Equal(t, Present{Online: []int64{1002}, LastSeen: map[int64]int64{1003: 7}}, presence)
		require.ErrorIs(t, c.Do(t.Context(), Edit{MessageID: "a"}), &Error{Code: NotFound})
		require.ErrorContains(t, c.Do(t.Context(), Recall{MessageID: "a"}), "unexpected answer")
	})
}

func TestViolationsAreReported(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		c, p := dialed(t, s, nil)
		p.pushes("0:11", "a")
		p.pushes("0:11", "a")
		p.writes(`{"error":{"code":"invalid_argument","message":"no JSON"}}`)
		synctest.Wait()
		require.Equal(t, []string{
			"new_message at 0:11 pushed after 0:11",
			"an error that answers nothing: invalid_argument: no JSON",
		}, c.violations)
		require.Equal(t, []string{"a"}, c.pushed)
	})
}

func TestDialReturnsWhyItFailed(t *testing.T) {
	tests := map[string]struct {
		server func(p *peer)
		is     error
		says   string
	}{
		"refused": {func(p *peer) { id, _, _ := p.next(); p.refuses(id, Unauthenticated) }, &Error{Code: Unauthenticated}, "unauthenticated"},
		"closed":  {func(p *peer) { p.closes(CloseUnauthenticated) }, nil, "connection closed: 4001"},
		"strange": {func(p *peer) { p.next(); p.writes(`{"push":{"type":"typing"}}`) }, nil, "unexpected answer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *server) {
				go func() { tt.server(s.accept()) }()
				_, err := Dial(t.Context(), Config{
					URL: "ws://millrace.test/ws", NetDial: s.dial,
					Token: func(context.Context) (string, error) { return "t", nil },
				})
				require.ErrorContains(t, err, tt.says)
				if tt.is != nil {
					require.ErrorIs(t, err, tt.is)
				}
			})
		})
	}
	t.Run("no token", func(t *testing.T) {
		none := errors.New("none")
		_, err := Dial(t.Context(), Config{Token: func(context.Context) (string, error) { return "", none }})
		require.ErrorIs(t, err, none)
	})
}
