package connect_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// script answers batches as the test says and keeps what was accepted.
type script struct {
	mu       sync.Mutex
	sizes    []int
	accepted []string
	code     func(content string) codes.Code // codes.Canceled leaves the batch unanswered
}

func (s *script) batch(b *millracev1.SendBatch) *millracev1.SendBatchResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes = append(s.sizes, len(b.GetMessages()))
	result := &millracev1.SendBatchResult{Id: b.GetId()}
	broken := codes.OK
	for _, m := range b.GetMessages() {
		code := s.code(m.GetContent())
		switch {
		case code == codes.Canceled:
			return nil
		case broken != codes.OK:
			code = broken
		case code == codes.Unavailable:
			broken = code
		}
		if code == codes.OK {
			s.accepted = append(s.accepted, m.GetContent())
		}
		result.Results = append(result.Results, &millracev1.SendResult{
			Code: int32(code), Error: code.String(), Sent: &millracev1.SendWSMessageResponse{MessageId: m.GetContent(), Conversation: "u:1:2"},
		})
	}
	return result
}

func (s *script) set(code func(string) codes.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

func (s *script) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accepted)
}

// tried is how many batches came.
func (s *script) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sizes)
}

func all(code codes.Code) func(string) codes.Code { return func(string) codes.Code { return code } }

// only has the code for one content.
func only(content string, code codes.Code) func(string) codes.Code {
	return func(c string) codes.Code {
		if c == content {
			return code
		}
		return codes.OK
	}
}

func startScripted(t *testing.T, cfg connect.Config, code func(string) codes.Code) (*simple, *script) {
	s := startSimple(t, cfg)
	sc := &script{code: code}
	s.message.batch = sc.batch
	return s, sc
}

// sendAll sends the contents in order, each under its own name as client_msg_id.
func (c *client) sendAll(contents ...string) {
	for i, content := range contents {
		c.send(`{"id":%d,"send":{"to":2,"content":"%s","client_msg_id":"%s"}}`, i+1, content, content)
	}
}

// outcomes reads n answers and tells by id what they were: "sent" or the error's code.
func (c *client) outcomes(n int) []string {
	c.t.Helper()
	results := make([]string, n)
	for range n {
		f := c.read()
		require.NotZero(c.t, f.ID, f.raw)
		results[f.ID-1] = "sent"
		if f.Error != nil {
			results[f.ID-1] = f.Error.Code
		}
	}
	return results
}

func TestSendsOfAConversationKeepTheirOrder(t *testing.T) {
	s, script := startScripted(t, connect.Config{}, all(codes.OK))
	c, _ := s.connect(1)
	var contents []string
	for i := range 500 {
		contents = append(contents, fmt.Sprint(i))
	}
	c.sendAll(contents...)
	for _, outcome := range c.outcomes(len(contents)) {
		require.Equal(t, "sent", outcome)
	}
	require.Equal(t, contents, script.got())
	require.LessOrEqual(t, slices.Max(script.sizes), 64)
}

func TestAMessageRefusedForItsOwnFaultStandsAlone(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.InvalidArgument: "invalid_argument", codes.PermissionDenied: "permission_denied", codes.NotFound: "not_found",
		codes.OutOfRange: "too_large",
	} {
		s, script := startScripted(t, connect.Config{}, only("b", code))
		c, _ := s.connect(1)
		c.sendAll("a", "b", "c")
		require.Equal(t, []string{"sent", want, "sent"}, c.outcomes(3))
		require.Equal(t, []string{"a", "c"}, script.got())
	}
}

func TestAfterARefusalNothingOvertakesTheRepeat(t *testing.T) {
	s, script := startScripted(t, connect.Config{OrderHold: time.Minute}, only("b", codes.Unavailable))
	c, _ := s.connect(1)
	c.sendAll("a", "b", "c")
	require.Equal(t, []string{"sent", "unavailable", "unavailable"}, c.outcomes(3))
	script.set(all(codes.OK))
	c.sendAll("d", "c") // were on the wire already
	require.Equal(t, []string{"unavailable", "unavailable"}, c.outcomes(2))
	c.send(`{"id":1,"send":{"to":3,"content":"other"}}`)
	require.Equal(t, []string{"sent"}, c.outcomes(1), "another conversation goes on")
	c.sendAll("b", "c", "d")
	require.Equal(t, []string{"sent", "sent", "sent"}, c.outcomes(3))
	require.Equal(t, []string{"a", "other", "b", "c", "d"}, script.got())
}

// However long the client takes to read that a send was refused, what it sends meanwhile does not overtake the repeat.
func TestNothingOvertakesTheRepeatOfASendWhoseRefusalWasNotRead(t *testing.T) {
	s, script := startScripted(t, connect.Config{OrderHold: time.Millisecond}, all(codes.Unavailable))
	c, _ := s.connect(1)
	c.sendAll("a")
	require.Eventually(t, func() bool { return script.tried() == 1 }, patience, time.Millisecond)
	script.set(all(codes.OK))
	const more = 20
	want := []string{"unavailable"}
	for i := range more {
		time.Sleep(time.Millisecond) // the hold would be over
		c.send(`{"id":%d,"send":{"to":2,"content":"b"}}`, i+2)
		want = append(want, "unavailable")
	}
	require.Equal(t, want, c.outcomes(1+more))
	c.sendAll("a", "b")
	require.Equal(t, []string{"sent", "sent"}, c.outcomes(2))
	require.Equal(t, []string{"a", "b"}, script.got())
}

func TestAConversationOpensAgainByItself(t *testing.T) {
	s, script := startScripted(t, connect.Config{OrderHold: time.Millisecond}, all(codes.Unavailable))
	c, _ := s.connect(1)
	c.sendAll("a")
	require.Equal(t, []string{"unavailable"}, c.outcomes(1))
	script.set(all(codes.OK))
	require.Eventually(t, func() bool {
		c.sendAll("b") // the client gave "a" up
		return c.outcomes(1)[0] == "sent"
	}, patience, time.Millisecond)
}

func TestAnUnansweredBatchIsUnavailableInTime(t *testing.T) {
	s, script := startScripted(t, connect.Config{CallTimeout: 300 * time.Millisecond}, only("a", codes.Canceled))
	c, _ := s.connect(1)
	started := time.Now()
	c.sendAll("a", "b")
	c.send(`{"id":3,"send":{"to":3,"content":"other"}}`)
	require.Equal(t, []string{"unavailable", "unavailable", "sent"}, c.outcomes(3))
	require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
	require.Equal(t, []string{"other"}, script.got(), "what is behind an unknown outcome is not sent")
}

// cut ends the connection to the node.
func cut(t *testing.T, node cluster.Conn) { require.NoError(t, node.Close()) }

func TestWithoutAMessageNodeSendsAreUnavailableInTime(t *testing.T) {
	w := newWorld(2)
	served := serveMessages(t, &messageNode{w: w})
	r := start(t, connect.Config{CallTimeout: 300 * time.Millisecond, OrderHold: time.Millisecond}, []cluster.Conn{served}, nil)
	c, _ := r.connect(1)
	c.sendAll("a")
	require.Equal(t, []string{"sent"}, c.outcomes(1))
	cut(t, served)
	for range 3 {
		c.sendAll("b", "c")
		require.Equal(t, []string{"unavailable", "unavailable"}, c.outcomes(2))
	}
}

func TestSendsGoOnOverAnotherNode(t *testing.T) {
	w := newWorld(2)
	dead := serveMessages(t, &messageNode{w: w})
	cut(t, dead)
	r := start(t, connect.Config{}, []cluster.Conn{dead, serveMessages(t, &messageNode{w: w}), dead}, nil)
	c, connected := r.connect(1)
	require.True(t, connected.Complete)
	for range 20 {
		c.sendAll("a")
		require.Equal(t, []string{"sent"}, c.outcomes(1))
	}
}

func TestSendsOverTheRateAreRefused(t *testing.T) {
	s, _ := startScripted(t, connect.Config{SendRate: 10}, all(codes.OK))
	c, _ := s.connect(1)
	other, _ := s.connect(1)
	var contents []string
	for i := range 40 {
		contents = append(contents, fmt.Sprint(i))
	}
	c.sendAll(contents...)
	outcomes := c.outcomes(len(contents))
	require.Equal(t, "sent", outcomes[0])
	require.Contains(t, outcomes, "rate_limited")
	other.sendAll("x", "y", "z")
	require.Contains(t, other.outcomes(3), "rate_limited", "the rate is the user's")
}

func TestAMessageWithoutAnIDGetsOne(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1)
	c.send(`{"id":1,"send":{"to":1,"content":"to myself"}}`)
	for range 2 {
		if f := c.read(); f.Push != nil {
			require.NotEmpty(t, f.Push.Message.ClientMsgID)
		}
	}
	c.send(`{"id":2,"ping":{}}`)
	require.NotNil(t, c.read().Pong, "a message to oneself is one push")
}
