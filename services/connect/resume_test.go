package connect_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/connect"
)

func cursorOf(t testing.TB, cursor map[int32]int64) string {
	data, err := json.Marshal(cursor)
	require.NoError(t, err)
	return `"cursor":` + string(data)
}

const fromTheStart = `"cursor":{"0":0,"1":0,"2":0,"3":0}`

func TestMissedPushesComeAfterConnectedAndBeforeNewerOnes(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, connected := s.connect(1)
	require.NoError(t, c.conn.Close())
	s.w.say(2, 1, "missed 1")
	s.w.say(2, 1, "missed 2")
	s.message.beforeSync = func() { s.w.say(2, 1, "missed 3") }
	c, again := s.connect(1, cursorOf(t, connected.Cursor))
	require.Equal(t, connected.Cursor, again.Cursor, "the client's own")
	s.w.say(2, 1, "live")
	for _, content := range []string{"missed 1", "missed 2", "missed 3", "live"} {
		require.NotEmpty(t, c.pushed(content).Pos)
	}
}

// The end of the log reads lower than what this gateway has delivered already. What lies between must not be missed.
func TestHarmLogThatEndsLowerThanBeforeHidesNothing(t *testing.T) {
	s := startSimple(t, connect.Config{})
	first, connected := s.connect(1)
	s.w.say(2, 1, "one")
	s.w.say(2, 1, "two")
	first.pushed("one")
	first.pushed("two")
	s.w.bus.lag.Store(1)
	back, again := s.connect(1, cursorOf(t, connected.Cursor))
	require.True(t, again.Recovered)
	back.pushed("one")
	back.pushed("two")
	s.w.say(2, 1, "live")
	first.pushed("live")
	back.pushed("live")
}

// A gateway asks message nodes for only a bounded number of connecting sessions at once, and all of them have their turn.
func TestSessionsThatConnectAtOnceTakeTurns(t *testing.T) {
	const sessions, atOnce = 100, 64
	s := startSimple(t, connect.Config{ConnectTimeout: time.Minute, AnswerTimeout: 3 * time.Minute})
	var mu sync.Mutex
	asking, most := 0, 0
	count := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		asking += n
		most = max(most, asking)
		return asking
	}
	let := make(chan struct{})
	s.message.beforeMemberships = func() {
		count(1)
		<-let
		count(-1)
	}
	var clients []*client
	for range sessions {
		clients = append(clients, s.dial())
	}
	for i, c := range clients {
		c.send(`{"id":1,"connect":{"token":"%d"}}`, i+1)
	}
	require.Eventually(t, func() bool { return count(0) >= atOnce }, patience, time.Millisecond)
	close(let)
	for _, c := range clients {
		f := c.read()
		require.NotNil(t, f.Connected, f.raw)
	}
	require.Equal(t, atOnce, most)
}

func TestWithoutACursorNothingIsReplayed(t *testing.T) {
	s := startSimple(t, connect.Config{})
	pos := s.w.say(2, 1, "before")
	c, connected := s.connect(1)
	require.Equal(t, pos.Seq, connected.Cursor[pos.Partition])
	s.w.say(2, 1, "live")
	c.pushed("live")
}

// tooMuch is one message more than a client may have missed.
const tooMuch = 1001

// missesTooMuch makes user 1 miss too much between two sessions. It returns the second session, and how both began.
func (s *simple) missesTooMuch(stored bool) (c *client, first, second *connectedFrame) {
	s.t.Helper()
	_, first = s.connect(1)
	s.w.lazy = true
	for i := range tooMuch {
		s.w.say(2, 1, fmt.Sprint("missed ", i))
	}
	if stored {
		s.w.keepAll()
	}
	c, second = s.connect(1, cursorOf(s.t, first.Cursor))
	return c, first, second
}

func TestTooMuchMissedIsNotRecovered(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _, again := s.missesTooMuch(true)
	require.False(t, again.Recovered)
	require.True(t, again.Complete)
	s.w.set(func(w *world) { require.Equal(t, w.ends(), again.Cursor) })
	s.w.say(2, 1, "live")
	c.pushed("live")
}

func TestTooMuchMissedIsIncompleteUntilHistoryHasIt(t *testing.T) {
	s := startSimple(t, connect.Config{Retry: 10 * time.Millisecond})
	c, connected, again := s.missesTooMuch(false)
	require.True(t, again.Recovered)
	require.False(t, again.Complete)
	require.Equal(t, connected.Cursor, again.Cursor)
	s.w.say(2, 1, "live")
	require.Empty(t, c.pushed("live").Pos)
	s.w.keepAll()
	code, _ := c.closedWith()
	require.Equal(t, 4008, code)
	_, again = s.connect(1, cursorOf(t, again.Cursor))
	require.False(t, again.Recovered)
	require.True(t, again.Complete)
}

// However large they are, a thousand missed messages come one after the other as the client reads, and live ones follow.
func TestLargeMissedMessagesAreRecoveredPageByPage(t *testing.T) {
	s := startSimple(t, connect.Config{})
	missed := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 32<<10-10)) }
	for i := range 260 {
		s.w.say(2, 1, missed(i))
	}
	c, connected := s.connect(1, fromTheStart)
	require.True(t, connected.Recovered)
	require.True(t, connected.Complete)
	s.w.say(2, 1, "live")
	for i := range 260 {
		c.pushed(missed(i))
	}
	require.NotEmpty(t, c.pushed("live").Pos)
	require.Greater(t, s.message.syncs.Load(), int64(2), "the gateway holds a page at a time")
}

// Storage is down when the second page is asked for. What is missing is owed then, and comes when it is available.
func TestAMissedPageThatIsUnavailableFollowsLater(t *testing.T) {
	s := startSimple(t, connect.Config{Retry: 10 * time.Millisecond})
	missed := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 32<<10-10)) }
	for i := range 260 {
		s.w.say(2, 1, missed(i))
	}
	s.w.trim()
	s.message.afterSync = func() { s.w.store.down.Store(s.message.syncs.Load() < 4) }
	c, connected := s.connect(1, fromTheStart)
	require.True(t, connected.Recovered)
	for i := range 260 {
		c.pushed(missed(i))
	}
	f := c.read()
	require.NotNil(t, f.Push, f.raw)
	require.Equal(t, "complete", f.Push.Type)
}

// What is new while a client reads what it missed waits in the log if it is more than an outbox.
func TestAClientThatReadsWhatItMissedIsNotTooSlowForWhatIsNew(t *testing.T) {
	s := startSimple(t, connect.Config{OutboxFrames: 8})
	missed := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 32<<10-10)) }
	for i := range 400 {
		s.w.say(2, 1, missed(i))
	}
	other, _ := s.connect(1)
	c, _ := s.connect(1, fromTheStart)
	for i := range 40 {
		s.w.say(2, 1, fmt.Sprint("new ", i))
		other.pushed(fmt.Sprint("new ", i))
	}
	for i := range 400 {
		c.pushed(missed(i))
	}
	for i := range 40 {
		c.pushed(fmt.Sprint("new ", i))
	}
}

func TestASlowClientGetsMoreThanAnOutboxOfMissedPushes(t *testing.T) {
	s := startSimple(t, connect.Config{OutboxFrames: 8})
	for i := range 200 {
		s.w.say(2, 1, fmt.Sprint("missed ", i))
	}
	c, _ := s.connect(1, fromTheStart)
	for i := range 200 {
		c.pushed(fmt.Sprint("missed ", i))
	}
}

// What storage is behind with is in no history yet and came before the session, so it follows as pushes.
func TestWithoutACursorWhatStorageIsBehindWithFollows(t *testing.T) {
	s := startSimple(t, connect.Config{Retry: 10 * time.Millisecond})
	kept := s.w.say(2, 1, "in history")
	s.w.set(func(w *world) { w.lazy = true })
	behind := s.w.say(2, 1, "behind")
	c, connected := s.connect(1)
	require.True(t, connected.Recovered)
	require.False(t, connected.Complete)
	require.Equal(t, kept.Seq, connected.Cursor[kept.Partition])
	require.Equal(t, behind.String(), c.pushed("behind").Pos)
	complete := c.read()
	require.Equal(t, "complete", complete.Push.Type, complete.raw)
	s.w.set(func(w *world) { require.Equal(t, w.ends(), complete.Push.Cursor) })
	pos := s.w.say(2, 1, "live")
	require.Equal(t, pos.String(), c.pushed("live").Pos)
}

func TestWhileTheStoreIsDownLivePushesHaveNoPositionAndTheMissedFollow(t *testing.T) {
	s := startSimple(t, connect.Config{Retry: 10 * time.Millisecond})
	_, connected := s.connect(1)
	missed := s.w.say(2, 1, "missed")
	s.w.trim()
	s.w.store.down.Store(true)
	c, again := s.connect(1, cursorOf(t, connected.Cursor))
	require.True(t, again.Recovered)
	require.False(t, again.Complete)
	require.Equal(t, connected.Cursor, again.Cursor)

	s.w.say(2, 1, "live meanwhile")
	require.Empty(t, c.pushed("live meanwhile").Pos)
	s.w.store.down.Store(false)
	require.Equal(t, missed.String(), c.pushed("missed").Pos)
	complete := c.read()
	require.Equal(t, "complete", complete.Push.Type, complete.raw)
	s.w.set(func(w *world) { require.Equal(t, w.ends(), complete.Push.Cursor) })
	pos := s.w.say(2, 1, "live again")
	require.Equal(t, pos.String(), c.pushed("live again").Pos)
}

func TestConnectingReadsNoLog(t *testing.T) {
	s := startSimple(t, connect.Config{})
	for user := range int64(20) {
		s.w.say(user+1, user+1, fmt.Sprint("before ", user))
		c, _ := s.connect(user + 1)
		s.w.say(user+1, user+1, fmt.Sprint("live ", user))
		c.pushed(fmt.Sprint("live ", user))
	}
	s.w.set(func(w *world) { require.LessOrEqual(t, w.reads, 4, "at most once for a partition, at the start") })
}

func TestInterestIsKeptForAWhile(t *testing.T) {
	s := startSimple(t, connect.Config{KeepInterest: 200 * time.Millisecond})
	c, _ := s.connect(1)
	require.Eventually(t, func() bool { return s.push.interested("u:1") }, patience, time.Millisecond)
	require.NoError(t, c.conn.Close())
	left := time.Now()
	require.Eventually(t, func() bool { return !s.push.interested("u:1") }, patience, time.Millisecond)
	require.GreaterOrEqual(t, time.Since(left), 200*time.Millisecond)
}

func TestAnswersOfTheMessageService(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1)
	for request, want := range map[string]string{
		`"history":{"conversation":"u:1:2","after_seq":0,"limit":2}`: `"messages":{"conversation":"u:1:2","more":true,"messages":[
			{"seq":1,"message_id":"m1","client_msg_id":"c1","from":1,"to":2,"content":"hi","message_type":1,"timestamp":5,"edited_at":6},
			{"seq":2,"message_id":"m2","recalled":true}]}`,
		`"conversations":{}`: `"conversations":{"conversations":[{"conversation":"g:7","unread":3,"read_seq":4,
			"last":{"seq":2,"message_id":"m2","recalled":true}}],"more":false}`,
		`"conversations":{"next":"n0"}`: `"conversations":{"conversations":[{"conversation":"g:7","unread":3,"read_seq":4,
			"last":{"seq":2,"message_id":"m2","recalled":true}}],"more":true,"next":"n1"}`,
		`"read":{"conversation":"u:1:2","seq":3}`:                                              `"ok":{}`,
		`"settings":{"conversation":"u:1:2","muted_until":0,"pinned":true}`:                    `"ok":{}`,
		`"settings":{"conversation":"u:1:2","pinned":1}`:                                       `"error":{"code":"invalid_argument","message":"settings: wrong type of pinned"}`,
		`"settings":{"conversation":"u:2:1","pinned":true}`:                                    `"error":{"code":"invalid_argument","message":"conversation: want \"u:<low>:<high>\" or \"g:<group>\""}`,
		`"readers":{"conversation":"u:1:2","seq":3}`:                                           `"readers":{"readers":[{"user":2,"seq":4}]}`,
		`"readers":{"conversation":"u:1:2","seq":"3"}`:                                         `"error":{"code":"invalid_argument","message":"readers: wrong type of seq"}`,
		`"push_subscribe":{"endpoint":"https://p.example/1","keys":{"p256dh":"k","auth":"a"}}`: `"ok":{}`,
		`"push_subscribe":{"endpoint":"https://p.example/1","keys":"k"}`:                       `"error":{"code":"invalid_argument","message":"push_subscribe: wrong type of keys"}`,
		`"push_unsubscribe":{"endpoint":"https://p.example/1"}`:                                `"ok":{}`,
		`"push_unsubscribe":{}`:                                                                `"error":{"code":"invalid_argument","message":"no endpoint"}`,
		`"recall":{"conversation":"u:1:2","message_id":"m1"}`:                                  `"ok":{}`,
		`"edit":{"conversation":"u:1:2","message_id":"m1","content":"x"}`:                      `"ok":{}`,
		`"group_create":{"name":"us","members":[2],"client_msg_id":"c"}`:                       `"group":{"group_id":7,"name":"us","owner":1,"members":[1,2]}`,
		`"group_create":{"name":"us","members":[2],"client_msg_id":"c","join":"open"}`:         `"group":{"group_id":7,"name":"us","owner":1,"members":[1,2],"join":"open"}`,
		`"group_create":{"name":"us","join":"closed"}`:                                         `"error":{"code":"invalid_argument","message":"join: want \"open\" or nothing"}`,
		`"typing":{"group_id":7}`:                                                              `"error":{"code":"not_found","message":"no such group"}`,
		`"group_info":{"group_id":7}`:                                                          `"group":{"group_id":7,"name":"us","owner":1,"members":[]}`,
		`"group_join":{"group_id":7}`:                                                          `"group":{"group_id":7,"name":"us","owner":1,"members":[]}`,
		`"group_add":{"group_id":7,"user":3}`:                                                  `"group":{"group_id":7,"name":"us","owner":1,"members":[]}`,
		`"group_rename":{"group_id":7,"name":"we"}`:                                            `"group":{"group_id":7,"name":"we","owner":1,"members":[]}`,
		`"group_dissolve":{"group_id":7}`:                                                      `"ok":{}`,
		`"group_role":{"group_id":7,"user":3,"role":"admin","client_msg_id":"c"}`:              `"group":{"group_id":7,"name":"us","owner":1,"members":[1,3],"admins":[3]}`,
		`"group_mute":{"group_id":7,"user":3,"until":9}`:                                       `"group":{"group_id":7,"name":"us","owner":1,"members":[1,3],"muted":{"3":9}}`,
		`"group_mute":{"group_id":7,"until":9}`:                                                `"group":{"group_id":7,"name":"us","owner":1,"members":[1,3],"muted_until":9}`,
		`"group_mute":{"group_id":7,"until":0}`:                                                `"group":{"group_id":7,"name":"us","owner":1,"members":[1,3]}`,
		`"group_mute":{"group_id":7,"user":0,"until":9}`:                                       `"error":{"code":"invalid_argument","message":"user: want an integer from 1 to 2^53-1, or none for all members"}`,
		`"group_mute":{"group_id":7,"user":3}`:                                                 `"error":{"code":"invalid_argument","message":"until: want Unix seconds, or 0"}`,
		`"group_mute":{"until":9}`:                                                             `"error":{"code":"invalid_argument","message":"group_id: want an integer from 1 to 2^53-1"}`,
		`"group_role":{"group_id":7,"user":3,"role":1}`:                                        `"error":{"code":"invalid_argument","message":"group_role: wrong type of role"}`,
		`"group_remove":{"group_id":7,"user":3}`:                                               `"error":{"code":"permission_denied","message":"not the owner"}`,
		`"group_leave":{"group_id":7}`:                                                         `"ok":{}`,
	} {
		c.send(`{"id":5,%s}`, request)
		require.JSONEq(t, `{"id":5,`+want+`}`, c.read().raw, request)
	}
}
