package connect_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// script answers batches as the test wants and keeps what was accepted.
type script struct {
	mu       sync.Mutex
	sizes    []int
	accepted []string
	code     func(content string) codes.Code // codes.Canceled leaves the batch unanswered
}

func (s *script) batch(b *millracev1.SendBatch) *millracev1.SendBatchResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents := contentsOf(b)
	s.sizes = append(s.sizes, len(contents))
	result := &millracev1.SendBatchResult{Id: b.GetId()}
	broken := codes.OK
	for _, content := range contents {
		code := s.code(content)
		switch {
		case code == codes.Canceled:
			return nil
		case broken != codes.OK:
			code = broken
		case code == codes.Unavailable:
			broken = code
		}
		if code == codes.OK {
			s.accepted = append(s.accepted, content)
		}
		result.Results = append(result.Results, &millracev1.SendResult{
			Code: int32(code), Error: code.String(), Sent: &millracev1.SendWSMessageResponse{MessageId: content, Conversation: "u:1:2"},
		})
	}
	return result
}

// contentsOf returns a name for each change of a batch: the content of a send, and what any other change does.
func contentsOf(b *millracev1.SendBatch) []string {
	var contents []string
	for _, m := range b.GetMessages() {
		contents = append(contents, m.GetContent())
	}
	for _, c := range b.GetChanges() {
		switch kind := c.GetKind().(type) {
		case *millracev1.Change_Send:
			contents = append(contents, kind.Send.GetContent())
		case *millracev1.Change_Edit:
			contents = append(contents, "edit "+kind.Edit.GetContent())
		case *millracev1.Change_Recall:
			contents = append(contents, "recall "+kind.Recall.GetMessageId())
		case *millracev1.Change_Read:
			contents = append(contents, fmt.Sprint("read ", kind.Read.GetSeq()))
		case *millracev1.Change_CreateGroup:
			contents = append(contents, "create "+kind.CreateGroup.GetName())
		case *millracev1.Change_AddMember:
			contents = append(contents, fmt.Sprint("add ", kind.AddMember.GetUser()))
		case *millracev1.Change_RemoveMember:
			contents = append(contents, fmt.Sprint("remove ", kind.RemoveMember.GetUser()))
		}
	}
	return contents
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

// tried returns how many batches came.
func (s *script) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sizes)
}

func all(code codes.Code) func(string) codes.Code { return func(string) codes.Code { return code } }

// only returns a script's code function that returns the code for this content only.
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

// sendAll sends the contents in order, each with its content as the client_msg_id.
func (c *client) sendAll(contents ...string) {
	for i, content := range contents {
		c.send(`{"id":%d,"send":{"to":2,"content":"%s","client_msg_id":"%s"}}`, i+1, content, content)
	}
}

// outcomes reads n answers and returns by id what they were: "sent" or the error's code.
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

// ask sends requests, each in the form `"verb":{…}`.
func (c *client) ask(requests ...string) {
	for i, request := range requests {
		c.send(`{"id":%d,%s}`, i+1, request)
	}
}

func TestAllChangesOfAConversationKeepTheirOrder(t *testing.T) {
	s, script := startScripted(t, connect.Config{}, all(codes.OK))
	c, _ := s.connect(1)
	var want, requests []string
	for i := range 40 {
		want = append(want, fmt.Sprint("s", i), fmt.Sprint("edit e", i), fmt.Sprint("recall m", i), fmt.Sprint("read ", i+1),
			fmt.Sprint("remove ", i+1), fmt.Sprint("add ", i+1))
		requests = append(requests,
			fmt.Sprintf(`"send":{"group_id":7,"content":"s%d"}`, i),
			fmt.Sprintf(`"edit":{"conversation":"g:7","message_id":"m","content":"e%d"}`, i),
			fmt.Sprintf(`"recall":{"conversation":"g:7","message_id":"m%d"}`, i),
			fmt.Sprintf(`"read":{"conversation":"g:7","seq":%d}`, i+1),
			fmt.Sprintf(`"group_remove":{"group_id":7,"user":%d}`, i+1),
			fmt.Sprintf(`"group_add":{"group_id":7,"user":%d}`, i+1))
	}
	c.ask(requests...)
	c.outcomes(len(requests))
	require.Equal(t, want, script.got())
}

func TestAfterAnyChangeThatIsUnavailableNothingOvertakesItsRepeat(t *testing.T) {
	edit := func(content, clientMsgID string) string {
		return `"edit":{"conversation":"u:1:2","message_id":"m","content":"` + content + `"` + clientMsgID + `}`
	}
	for name, clientMsgID := range map[string]string{"named": `,"client_msg_id":"e"`, "nameless": ""} {
		t.Run(name, func(t *testing.T) {
			s, script := startScripted(t, connect.Config{OrderHold: time.Minute}, only("edit a", codes.Unavailable))
			c, _ := s.connect(1)
			recall := `"recall":{"conversation":"u:1:2","message_id":"m"}`
			c.ask(edit("a", clientMsgID), recall, `"send":{"to":2,"content":"b"}`)
			require.Equal(t, []string{"unavailable", "unavailable", "unavailable"}, c.outcomes(3))
			script.set(all(codes.OK))
			c.ask(recall, edit("c", `,"client_msg_id":"other"`), edit("c", ""))
			require.Equal(t, []string{"unavailable", "unavailable", "unavailable"}, c.outcomes(3))
			c.ask(edit("a", clientMsgID), recall)
			c.outcomes(2)
			require.Equal(t, []string{"edit a", "recall m"}, script.got())
		})
	}
}

func TestAReadThatIsUnavailableHoldsBackNothing(t *testing.T) {
	s, script := startScripted(t, connect.Config{OrderHold: time.Minute}, only("read 1", codes.Unavailable))
	c, _ := s.connect(1)
	c.ask(`"read":{"conversation":"u:1:2","seq":1}`)
	require.Equal(t, []string{"unavailable"}, c.outcomes(1))
	c.sendAll("a", "b")
	require.Equal(t, []string{"sent", "sent"}, c.outcomes(2))
	require.Equal(t, []string{"a", "b"}, script.got())
}

func TestAChangeThatWaitsForTheStoreHoldsUpNoOtherConversation(t *testing.T) {
	s := startSimple(t, connect.Config{CallTimeout: patience, AnswerTimeout: patience})
	waiting := make(chan *millracev1.SendBatch, 100)
	s.message.batch = func(b *millracev1.SendBatch) *millracev1.SendBatchResult {
		if len(b.GetMessages()) == 0 {
			waiting <- b
			return nil // not answered while the test lasts
		}
		return s.message.accept(b)
	}
	c, _ := s.connect(1)
	other, _ := s.connect(2)
	for i := range 4 {
		c.send(`{"id":%d,"group_create":{"name":"g%d"}}`, i+1, i)
		<-waiting // each lane is alone in its frame
	}
	other.sendAll("a")
	for f := other.read(); f.Sent == nil; f = other.read() {
		require.NotNil(t, f.Push, f.raw)
	}
}

func TestEveryGroupIsCreatedInALaneOfItsOwnUnderANameDrawnByTheGateway(t *testing.T) {
	s, script := startScripted(t, connect.Config{OrderHold: time.Minute}, only("create a", codes.Unavailable))
	names := make(chan string, 10)
	s.message.batch = func(b *millracev1.SendBatch) *millracev1.SendBatchResult {
		names <- b.GetChanges()[0].GetCreateGroup().GetClientMsgId()
		return script.batch(b)
	}
	c, _ := s.connect(1)
	c.ask(`"group_create":{"name":"a"}`, `"group_create":{"name":"b"}`)
	require.Equal(t, []string{"unavailable", "sent"}, c.outcomes(2))
	first, second := <-names, <-names
	require.NotEmpty(t, first)
	require.NotEmpty(t, second)
	require.NotEqual(t, first, second)
}

func TestAChangeIsRefusedForAnImpossibleClientMsgID(t *testing.T) {
	s, script := startScripted(t, connect.Config{}, all(codes.OK))
	c, _ := s.connect(1)
	for _, id := range []string{strings.Repeat("x", 65), `\ud800`} {
		name := `,"client_msg_id":"` + id + `"}`
		c.ask(`"edit":{"conversation":"u:1:2","message_id":"m","content":"x"`+name, `"recall":{"conversation":"u:1:2","message_id":"m"`+name,
			`"read":{"conversation":"u:1:2","seq":1`+name, `"group_create":{"name":"x"`+name, `"group_leave":{"group_id":7`+name,
			`"group_add":{"group_id":7,"user":2`+name, `"edit":{"conversation":"u:2:1","message_id":"m","content":"x"}`,
			`"group_join":{"group_id":0}`)
		require.Equal(t, slices.Repeat([]string{"invalid_argument"}, 8), c.outcomes(8))
	}
	require.Empty(t, script.got())
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
	c.sendAll("d", "c") // they were on the wire already
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
		time.Sleep(time.Millisecond) // by time alone the hold would be over
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
	const timeout = 2 * time.Second // "other" must be sent meanwhile
	s, script := startScripted(t, connect.Config{CallTimeout: timeout}, only("a", codes.Canceled))
	c, _ := s.connect(1)
	started := time.Now()
	c.sendAll("a", "b")
	c.send(`{"id":3,"send":{"to":3,"content":"other"}}`)
	require.Equal(t, []string{"unavailable", "unavailable", "sent"}, c.outcomes(3))
	require.GreaterOrEqual(t, time.Since(started), timeout)
	require.Equal(t, []string{"other"}, script.got(), "what is behind an unknown outcome is not sent")
}

// cut ends the connection to the node.
func cut(t *testing.T, node cluster.Conn) { require.NoError(t, node.Close()) }

func TestWithoutAMessageNodeSendsAreUnavailableInTime(t *testing.T) {
	w := newWorld(t, 2)
	served := serveMessages(t, &messageNode{w: w})
	r := start(t, connect.Config{CallTimeout: 2 * time.Second, OrderHold: time.Millisecond}, []cluster.Conn{served}, nil)
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
	w := newWorld(t, 2)
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
