package proof

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

// sdkFolder is where the SDK and its driver are.
const sdkFolder = "../../web/sdk"

// node returns the command that runs a bundled file with WebSockets, or skips the test.
func node(t *testing.T) []string {
	t.Helper()
	command, lacking := findNode(t)
	if lacking != "" {
		t.Skip(lacking)
	}
	return command
}

// findNode returns the command that runs a bundled file with WebSockets, or what is lacking for that.
func findNode(t *testing.T) (command []string, lacking string) {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		return nil, "no node: it is in Debian's nodejs"
	}
	for _, command := range [][]string{{path}, {path, "--experimental-websocket"}} {
		probe := exec.CommandContext(t.Context(), path, append(command[1:], "-e", "globalThis.WebSocket ?? require('ws')")...)
		probe.Env = nodeEnv()
		if probe.Run() == nil {
			return command, ""
		}
	}
	return nil, "node has no WebSocket: it is in Node 20 and later, and in Debian's node-ws"
}

// nodeEnv names the folder of Debian's packages of Node, which only Debian's Node knows.
func nodeEnv() []string {
	const key = "NODE_PATH"
	return append(os.Environ(), key+"="+strings.Join([]string{os.Getenv(key), "/usr/share/nodejs"}, string(filepath.ListSeparator)))
}

// buildDriver returns the file of the SDK's driver.
func buildDriver(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "driver.mjs")
	out, err := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../../../.tools/esbuild.mod", "esbuild", sdkFolder+"/test/driver.ts",
		"--bundle", "--platform=node", "--format=esm", "--target=node18", "--log-level=warning", "--outfile="+file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

// sdkUser is a user of the SDK in a process of its own, which notes in the journal everything that it is shown.
type sdkUser struct {
	t             *testing.T
	id            int64
	command       []string // with everything but the conversations
	conversations []string
	journal       *oracle.Journal
	diary         diary

	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when everything that the process said was noted

	mu        sync.Mutex
	ids       map[string]string // of own messages that were accepted, by client_msg_id
	kept      map[string]bool   // client_msg_ids of sends that were written to the outbox
	asked     map[int]func()    // by number, what to note once the change is made
	missed    int
	killed    int
	connected bool // the process was, at some time
	snapshots chan sdkSnapshot
}

type sdkSnapshot struct {
	Conversation string           `json:"conversation"`
	Messages     []client.Message `json:"messages"`
	Unplaced     int              `json:"unplaced"` // those that are pending, failed or not yet pushed
}

// sdkLine is a line of the driver. It has one of these.
type sdkLine struct {
	Push     *client.Push `json:"push"`
	Reloaded *client.Page `json:"reloaded"`
	Acked    *struct {
		Conversation string `json:"conversation"`
		ClientMsgID  string `json:"client_msg_id"`
		MessageID    string `json:"message_id"`
	} `json:"acked"`
	Kept     string       `json:"kept"`
	Agreed   int          `json:"agreed"`
	Refused  string       `json:"refused"`
	Missed   int          `json:"missed"`
	State    string       `json:"state"` // of the connection
	Snapshot *sdkSnapshot `json:"snapshot"`
}

// start starts the process, also again after kill.
func (u *sdkUser) start(ctx context.Context) {
	u.t.Helper()
	require.NoError(u.t, u.run(ctx))
}

// run starts the process, which ends with the context at the latest.
func (u *sdkUser) run(ctx context.Context) error {
	args := append(u.command[1:len(u.command):len(u.command)], u.conversations...)
	u.cmd = exec.CommandContext(ctx, u.command[0], args...)
	u.cmd.Env, u.cmd.Stderr = nodeEnv(), os.Stderr
	stdin, err := u.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := u.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := u.cmd.Start(); err != nil {
		return err
	}
	u.stdin, u.done = stdin, make(chan struct{})
	go func() {
		defer close(u.done)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			u.note(lines.Bytes())
		}
	}()
	return nil
}

// awaitConnected waits until the process was connected.
func (u *sdkUser) awaitConnected() {
	u.t.Helper()
	require.Eventually(u.t, func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.connected
	}, Patience, 10*time.Millisecond)
}

// kill ends the process at once, as when a page is loaded again. What was asked and not answered is forgotten.
func (u *sdkUser) kill() {
	_ = u.cmd.Process.Kill()
	<-u.done
	_ = u.cmd.Wait() // returns the error that it was killed
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = map[int]func(){}
	u.killed++
	u.diary.note("killed")
}

// end lets the process end by itself.
func (u *sdkUser) end() {
	u.t.Helper()
	require.NoError(u.t, u.stdin.Close())
	<-u.done
	require.NoError(u.t, u.cmd.Wait())
}

func (u *sdkUser) tell(command map[string]any) {
	u.t.Helper()
	require.NoError(u.t, u.order(command))
}

// order passes a command to the process.
func (u *sdkUser) order(command map[string]any) error {
	line, err := json.Marshal(command)
	if err == nil {
		_, err = u.stdin.Write(append(line, '\n'))
	}
	return err
}

// note puts a line of the driver into the journal.
func (u *sdkUser) note(text []byte) {
	var line sdkLine
	if err := json.Unmarshal(text, &line); err != nil {
		u.journal.Reported(fmt.Sprintf("user %d: %v: %.200q", u.id, err, text))
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case line.Push != nil:
		u.notePush(line.Push)
	case line.Reloaded != nil:
		var messages []oracle.Message
		for _, m := range line.Reloaded.Messages {
			messages = append(messages, seen(m.Seq, &m.PushMessage))
			u.noteOwn(line.Reloaded.Conversation, messages[len(messages)-1])
		}
		u.journal.Reloaded(line.Reloaded.Conversation, u.id, messages)
		u.diary.note("loaded %d of %s", len(messages), line.Reloaded.Conversation)
	case line.Acked != nil:
		u.journal.Acked(line.Acked.Conversation, u.id, line.Acked.ClientMsgID, line.Acked.MessageID)
		u.ids[line.Acked.ClientMsgID] = line.Acked.MessageID
	case line.Kept != "":
		u.kept[line.Kept] = true
	case line.Agreed != 0:
		if agreed := u.asked[line.Agreed]; agreed != nil {
			agreed()
		}
		delete(u.asked, line.Agreed)
	case line.Missed != 0:
		u.missed++
		u.diary.note("missed too much")
	case line.State != "":
		u.connected = u.connected || line.State == "connected"
		u.diary.note("%s", line.State)
	case line.Snapshot != nil:
		u.snapshots <- *line.Snapshot
	default:
		u.journal.Reported(fmt.Sprintf("user %d: %s", u.id, text))
	}
}

func (u *sdkUser) notePush(p *client.Push) {
	if p.Type != events.NewMessage {
		noteChange(u.journal, u.id, *p)
		return
	}
	m := seen(p.Seq, p.Message)
	m.Ahead = p.Pos == ""
	u.journal.Shown(p.Conversation, u.id, m)
	u.noteOwn(p.Conversation, m)
}

// noteOwn notes that a message of the user was accepted, which it may learn by seeing it: the answer may be lost with the process.
func (u *sdkUser) noteOwn(conversation string, m oracle.Message) {
	if m.From == u.id && u.ids[m.ClientMsgID] == "" {
		u.ids[m.ClientMsgID] = m.ID
		u.journal.Acked(conversation, u.id, m.ClientMsgID, m.ID)
	}
}

// noteChange puts the push of an edit or a recall into the journal.
func noteChange(journal *oracle.Journal, reader int64, p client.Push) {
	change := oracle.Change{MessageID: p.MessageID, Content: p.Content, Extra: string(p.Extra), Recalled: p.Type == events.MessageRecalled}
	if p.Type != events.MessageEdited && !change.Recalled {
		return
	}
	pos, err := events.ParsePosition(p.Pos)
	if err != nil && p.Pos != "" {
		journal.Reported(err.Error())
	}
	journal.Changed(p.Conversation, reader, pos.Seq, change)
}

// send posts the nth message of the user.
func (u *sdkUser) send(n int, conversation string) {
	u.t.Helper()
	_, err := u.post(n, conversation)
	require.NoError(u.t, err)
}

// post posts the nth message of the user, and returns its client_msg_id.
func (u *sdkUser) post(n int, conversation string) (id string, err error) {
	id = strconv.FormatInt(u.id, 10) + "-" + strconv.Itoa(n)
	extra := extraOf(n, id)
	u.journal.Sent(conversation, oracle.Message{From: u.id, ClientMsgID: id, Content: id, Extra: string(extra)})
	message := map[string]any{"conversation": conversation, "content": id, "client_msg_id": id}
	if extra != nil {
		message["extra"] = json.RawMessage(extra)
	}
	return id, u.order(map[string]any{"send": message})
}

// untilAccepted waits until the user knows that its message was accepted. One that was not in the outbox yet when the process
// was killed, which it had been less often before, is gone with it.
func (u *sdkUser) untilAccepted(ctx context.Context, id string, killed int) error {
	for {
		u.mu.Lock()
		done := u.ids[id] != "" || u.killed > killed && !u.kept[id]
		u.mu.Unlock()
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s was not accepted: %w", id, ctx.Err())
		}
		Wait(ctx, 10*time.Millisecond)
	}
}

// timesKilled returns how often the process was killed.
func (u *sdkUser) timesKilled() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.killed
}

// change edits or recalls the nth message of the user, if it was accepted.
func (u *sdkUser) change(n int, conversation string, recall bool) {
	u.t.Helper()
	id := strconv.FormatInt(u.id, 10) + "-" + strconv.Itoa(n)
	u.mu.Lock()
	messageID, ok := u.ids[id]
	change := oracle.Change{MessageID: messageID, Recalled: recall}
	command := map[string]any{"n": n, "conversation": conversation, "message_id": messageID}
	verb := "recall"
	if !recall {
		verb, change.Content = "edit", id+" changed"
		change.Extra = string(extraOf(1, change.Content))
		command["content"], command["extra"] = change.Content, json.RawMessage(change.Extra)
	}
	if ok {
		u.journal.Asked(conversation, change)
		u.asked[n] = func() { u.journal.Agreed(conversation, change) }
	}
	u.mu.Unlock()
	if ok {
		u.tell(map[string]any{verb: command})
	}
}

// shows returns what the user's view of the conversation has.
func (u *sdkUser) shows(conversation string) sdkSnapshot {
	u.t.Helper()
	u.tell(map[string]any{"snapshot": conversation})
	select {
	case s := <-u.snapshots:
		return s
	case <-u.done:
		require.FailNow(u.t, "the driver has ended")
		return sdkSnapshot{}
	}
}

// unanswered returns how many changes are not answered.
func (u *sdkUser) unanswered() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}
