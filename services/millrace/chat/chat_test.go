package chat

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/client/clienttest"
)

// terminal is a running `millrace client` whose input the test types.
type terminal struct {
	t           *testing.T
	in          *io.PipeWriter
	out, status *screen
	ended       chan error
}

// screen keeps what is printed, so that the test can wait for it.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) shows(t *testing.T, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(s.String(), what) }, 20*time.Second, time.Millisecond, what)
}

func opened(t *testing.T, f *clienttest.Fake, args ...string) *terminal {
	t.Setenv("MILLRACE_TOKEN", "")
	in, typed := io.Pipe()
	term := &terminal{t: t, in: typed, out: &screen{}, status: &screen{}, ended: make(chan error, 1)}
	cmd := NewCommand()
	cmd.SetIn(in)
	cmd.SetOut(term.out)
	cmd.SetErr(term.status)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{"--url=" + f.WebSocket()}, args...))
	go func() {
		term.ended <- cmd.ExecuteContext(t.Context())
		_ = in.Close()
	}()
	return term
}

func (term *terminal) types(lines ...string) {
	for _, line := range lines {
		_, err := io.WriteString(term.in, line+"\n")
		require.NoError(term.t, err)
	}
}

// ends closes the input and waits for the end.
func (term *terminal) ends() error {
	_ = term.in.Close()
	return <-term.ended
}

// at is the fake's fixed time as it is printed.
func at() string { return time.Unix(1642678800, 0).Format(time.TimeOnly) }

func TestTwoTerminalsChat(t *testing.T) {
	f := clienttest.New(t)
	a := opened(t, f, "--user=1001", "--target=1002")
	b := opened(t, f, "--user=1002", "--target=1001")
	b.status.shows(t, "connected as 1002")
	a.types("hello")
	b.out.shows(t, at()+" 1001: hello")
	a.out.shows(t, at()+" 1001 (you): hello")
	b.types("hi")
	a.out.shows(t, at()+" 1002: hi")
	require.NoError(t, a.ends())
	require.NoError(t, b.ends())
	require.Equal(t, 1, strings.Count(b.out.String(), "hello"))
}

func TestTerminalAnswersMentionsAndSendsExtra(t *testing.T) {
	f := clienttest.New(t)
	a := opened(t, f, "--user=1001", "--target=1002")
	b := opened(t, f, "--user=1002", "--target=1001")
	b.status.shows(t, "connected as 1002")
	for line, why := range map[string]string{
		"/reply x": "no message to answer", "/mention me x": `"me" is no id`, "/mention 1002": "not understood",
		"/extra {color x": `"{color" is no JSON`, "/extra {}": "not understood",
	} {
		b.types(line)
		b.status.shows(t, why)
	}
	a.types("/mention 1002 are you there")
	b.out.shows(t, at()+" 1001: [to you] are you there\n")
	b.types("/reply I  am")
	a.out.shows(t, at()+" 1002: [an answer] I  am\n")
	a.types(`/extra {"color":"red"} good`)
	b.out.shows(t, at()+` 1001: good {"color":"red"}`+"\n")
	require.NoError(t, a.ends())
	require.NoError(t, b.ends())
}

func TestTerminalShowsHistoryBeforeWhatIsNew(t *testing.T) {
	f := clienttest.New(t)
	for _, line := range []string{"first", "second"} {
		require.NoError(t, sendVia(f, line))
	}
	term := opened(t, f, "--user=1002", "--target=1001")
	term.out.shows(t, "second")
	require.NoError(t, sendVia(f, "third"))
	term.out.shows(t, "third")
	require.NoError(t, term.ends())
	require.Equal(t, at()+" 1001: first\n"+at()+" 1001: second\n"+at()+" 1001: third\n", term.out.String())
}

// sendVia runs `millrace client --send`.
func sendVia(f *clienttest.Fake, text string) error {
	cmd := NewCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetOut(io.Discard)
	cmd.SetArgs([]string{"--url=" + f.WebSocket(), "--user=1001", "--target=1002", "--send=" + text})
	return cmd.Execute()
}

func TestSendFailsInWordsWhenItIsRefused(t *testing.T) {
	f := clienttest.New(t)
	f.Refuse = func(string) string { return client.PermissionDenied }
	err := sendVia(f, "hello")
	require.ErrorIs(t, err, &client.Error{Code: client.PermissionDenied})
}

func TestTerminalComesBackWithWhatItMissed(t *testing.T) {
	f := clienttest.New(t)
	term := opened(t, f, "--user=1002", "--target=1001")
	require.NoError(t, sendVia(f, "before"))
	term.out.shows(t, "before")
	f.CutAll()
	require.NoError(t, sendVia(f, "meanwhile"))
	term.status.shows(t, "disconnected")
	term.out.shows(t, "meanwhile")
	require.NoError(t, term.ends())
	require.Equal(t, 1, strings.Count(term.out.String(), "before"))
	require.Equal(t, 1, strings.Count(term.out.String(), "meanwhile"))
}

func TestCursorFileCarriesOnWhereTheLastRunEnded(t *testing.T) {
	f := clienttest.New(t)
	file := filepath.Join(t.TempDir(), "cursor")
	term := opened(t, f, "--user=1002", "--target=1001", "--cursor-file="+file)
	require.NoError(t, sendVia(f, "seen"))
	term.out.shows(t, "seen")
	require.NoError(t, term.ends())

	require.NoError(t, sendVia(f, "missed"))
	term = opened(t, f, "--user=1002", "--target=1001", "--cursor-file="+file)
	term.out.shows(t, "missed")
	require.NoError(t, term.ends())
	require.NotContains(t, term.out.String(), "seen")

	require.ErrorContains(t, opened(t, f, "--user=1003", "--target=1001", "--cursor-file="+file).ends(), "is of user 1002")
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestPipedLinesAreAllSentBeforeTheEnd(t *testing.T) {
	f := clienttest.New(t)
	var lines []string
	for i := range 600 {
		lines = append(lines, strings.Repeat("x", i%50+1))
	}
	term := opened(t, f, "--user=1001", "--target=1002")
	term.types(lines...)
	require.NoError(t, term.ends())
	f.Changed(func() {
		var stored []string
		for _, m := range f.Stored["u:1001:1002"] {
			stored = append(stored, m.Content)
		}
		require.Equal(t, lines, stored)
	})
}

func TestPipedLineThatIsNoTextFailsTheRunAndIsNotSent(t *testing.T) {
	f := clienttest.New(t)
	term := opened(t, f, "--user=1001", "--target=1002")
	term.types("before", "caf\xe9", "after")
	require.ErrorContains(t, term.ends(), "1 of the messages")
	f.Changed(func() {
		require.Len(t, f.Stored["u:1001:1002"], 2)
	})
}

func TestPipedLinesThatAreRefusedFailTheRun(t *testing.T) {
	f := clienttest.New(t)
	f.Refuse = func(content string) string {
		if content == "bad" {
			return client.TooLarge
		}
		return ""
	}
	term := opened(t, f, "--user=1001", "--target=1002")
	term.types("good", "bad", "good")
	require.ErrorContains(t, term.ends(), "1 of the messages")
	require.Contains(t, term.status.String(), "too_large")
	require.NotContains(t, term.status.String(), "\x1b", "the server's words too are made safe")
}

func TestShownMessagesAreMarkedAsRead(t *testing.T) {
	f := clienttest.New(t)
	term := opened(t, f, "--user=1002", "--target=1001")
	require.NoError(t, sendVia(f, "one"))
	require.NoError(t, sendVia(f, "two"))
	require.Eventually(t, func() (done bool) {
		f.Changed(func() {
			done = len(f.Reads) > 0 && f.Reads[len(f.Reads)-1] == client.Read{Conversation: "u:1001:1002", Seq: 2}
		})
		return done
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, term.ends())
}

func TestCommandsOfTheTerminal(t *testing.T) {
	f := clienttest.New(t)
	drawnID := regexp.MustCompile(`,"client_msg_id":"[^"]+"`)
	var mu sync.Mutex
	var asked []string
	f.Answer = func(verb string, body json.RawMessage) string {
		mu.Lock()
		defer mu.Unlock()
		if verb == "group_create" {
			open := strings.Contains(string(body), `"join":"open"`)
			if body = json.RawMessage(`{}`); open { // holds what is drawn
				body = json.RawMessage(`{"join":"open"}`)
			}
		}
		if verb == "presence" {
			return `"presence":{"online":[1002],"last_seen":{"1003":1642678800}}`
		}
		asked = append(asked, verb+" "+drawnID.ReplaceAllString(string(body), ""))
		if verb == "group_create" || verb == "group_info" {
			return `"group":{"group_id":77,"name":"friends","owner":1001,"members":[1003,1001,1002]}`
		}
		if verb == "readers" {
			return `"readers":{"readers":[{"user":1002,"seq":3}]}`
		}
		if verb == "group_role" {
			return `"group":{"group_id":77,"name":"friends","owner":1001,"members":[1001,1002],"admins":[1002],"muted":{"1002":9999999999}}`
		}
		if verb == "blocked" {
			return `"blocked":{"users":[1004]}`
		}
		if verb == "group_rename" {
			return `"group":{"group_id":77,"name":"old friends","owner":1001,"members":[1001]}`
		}
		return `"ok":{}`
	}
	term := opened(t, f, "--user=1001")
	term.types("to nobody")
	term.status.shows(t, "to whom?")
	for _, step := range []struct{ line, out, status string }{
		{"/help", "", "/group create NAME USER"},
		{"/pin", "", "in which conversation?"},
		{"/readers", "", "nothing is shown yet"},
		{"/group info", "", "you are in no group"},
		{"/seen", "", "not understood"},
		{"/seen 1002", "1002 is online", ""},
		{"/seen 1003 1004", "1003 was last seen at " + time.Unix(1642678800, 0).Format(time.DateTime), ""},
		{"/seen 1004", "1004 is not online", ""},
		{"/group create friends 1002 1003", "group 77 friends is there", ""},
		{"hi all", at() + " 1001 (you): hi all", ""},
		{"/group open plaza 1002 1003", "group 77 friends is there", ""},
		{"/group info", "owner 1001, members [1001 1002 1003]", ""},
		{"/group add 1004", "done", ""},
		{"/group remove 1004", "done", ""},
		{"/group remove", "", "not understood"},
		{"/group rename old friends", "group 77 old friends,", ""},
		{"/group rename", "", "not understood"},
		{"/group admin 1002", "owner 1001, admins [1002], members [1001 1002], 1002 muted until", ""},
		{"/group member 1002", "owner 1001, admins [1002]", ""},
		{"/group owner 1002", "owner 1001, admins [1002]", ""},
		{"/group king 1002", "", "not understood"},
		{"/group admin", "", "not understood"},
		{"/group mute 1002 0", "done", ""},
		{"/group mute all 0", "done", ""},
		{"/group mute all often", "", `"often" is no number`},
		{"/group mute nobody 5", "", `"nobody" is no id`},
		{"/group mute 1002", "", "not understood"},
		{"/group dissolve", "done", ""},
		{"/group leave", "you have left group 77", ""},
		{"/group join 77", "1001 (you): hi all", ""},
		{"/to 1002", "", ""},
		{"direct", "1001 (you): direct", ""},
		{"/pin", "", ""},
		{"/unhide", "", ""},
		{"/silence 0", "", ""},
		{"/silence often", "", `"often" is no number`},
		{"/silence", "", "not understood"},
		{"/readers", "read by [1002]", ""},
		{"/block 1004", "1004 can no longer write to you alone", ""},
		{"/blocked", "you block [1004]", ""},
		{"/unblock 1004", "1004 can write to you again", ""},
		{"/block", "", "not understood"},
		{"/block me", "", `"me" is no id`},
		{"/blocked 1004", "", "not understood"},
		{"/history 1", "", ""},
		{"/history many", "", "N is from 1 to 200"},
		{"/to nobody", "", `"nobody" is no id`},
		{"/nonsense", "", "not understood"},
	} {
		term.types(step.line)
		term.out.shows(t, step.out)
		term.status.shows(t, step.status)
	}
	term.types("/quit")
	require.NoError(t, <-term.ended)
	require.Equal(t, 2, strings.Count(term.out.String(), "(you): direct"), "once sent, once as history")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{
		"group_create {}", `group_create {"join":"open"}`, `group_info {"group_id":77}`, `group_add {"group_id":77,"user":1004}`,
		`group_remove {"group_id":77,"user":1004}`, `group_rename {"group_id":77,"name":"old friends"}`, `group_role {"group_id":77,"user":1002,"role":"admin"}`,
		`group_role {"group_id":77,"user":1002,"role":"member"}`, `group_role {"group_id":77,"user":1002,"role":"owner"}`,
		`group_mute {"group_id":77,"user":1002,"until":0}`, `group_mute {"group_id":77,"until":0}`,
		`group_dissolve {"group_id":77}`, `group_leave {"group_id":77}`, `group_join {"group_id":77}`, `settings {"conversation":"u:1001:1002","pinned":true}`,
		`settings {"conversation":"u:1001:1002","hidden":false}`, `settings {"conversation":"u:1001:1002","muted_until":0}`,
		`readers {"conversation":"u:1001:1002","seq":2}`, `block {"user":1004}`, `blocked {}`, `unblock {"user":1004}`,
	}, asked)
}

func TestWhatOthersWriteCannotDriveTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"hello, 世界 👩‍👩‍👧":  "hello, 世界 👩‍👩‍👧",
		"a\x1b[2Jb":        "a\uFFFD[2Jb",
		"a\r\nb\tc":        "a\uFFFD↵b c",
		"a\u009b31mb":      "a\uFFFD31mb",
		"user\u202egnp":    "user\uFFFDgnp",
		"\x07\x00\x7f\xff": "\uFFFD\uFFFD\uFFFD\uFFFD",
	} {
		require.Equal(t, want, client.Sanitise(text))
	}
	f := clienttest.New(t)
	require.NoError(t, sendVia(f, "\x1b]0;owned\x07"))
	term := opened(t, f, "--user=1002", "--target=1001")
	term.out.shows(t, "owned")
	require.NoError(t, term.ends())
	require.NotContains(t, term.out.String(), "\x1b")
}

func TestMessagesAreShownByTheirType(t *testing.T) {
	out := &screen{}
	p := &printer{out: out, status: out, me: 1001}
	p.message(events.PushMessage{From: 1002, Content: "photo.jpg", MessageType: 2, Timestamp: 1642678800}, "g:77")
	p.message(events.PushMessage{From: 1002, Content: "x", MessageType: 100, Timestamp: 1642678800}, "")
	p.message(events.PushMessage{Recalled: true}, "")
	require.Equal(t, "[g:77] "+at()+" 1002: [image] photo.jpg\n"+at()+" 1002: [type 100] x\n* a message was recalled\n", out.String())
}

func TestSettingsAreToldInWords(t *testing.T) {
	for want, s := range map[string]events.Settings{
		"pinned": {Pinned: new(true)}, "not pinned, not hidden": {Pinned: new(false), Hidden: new(false)},
		"hidden until the next message, not silent":                 {Hidden: new(true), MutedUntil: new(int64(0))},
		"silent until " + time.Unix(1<<37, 0).Format(time.DateTime): {MutedUntil: new(int64(1 << 37))},
	} {
		require.Equal(t, want, settingsOf(s))
	}
}
