package proof

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

const (
	// notifyWindow is how long the notify handler collects messages of a conversation. With a longer one a process is killed less
	// often while it tells somebody, after which the next one waits for [notifyTaken].
	notifyWindow = 3 * time.Second
	// notifyEvery is the time between two messages to those who are away.
	notifyEvery = 400 * time.Millisecond
	// notifyTaken is how long a notification waits that a process has taken which was killed then.
	notifyTaken = time.Minute

	notifySender = Alice + 70
	notifyAway   = Alice + 71 // is never there
	notifyMuted  = Alice + 72 // is not there, and has muted the conversation
)

// notified takes the notifications of all users at an endpoint of the notify handler.
type notified struct {
	crowd  *Crowd
	sender *talker
	url    string

	mu   sync.Mutex
	told map[int64]map[string]notification // by user and id
	// faults are what no notification may be like.
	faults []string
	lost   map[string]bool // messages that the log may have lost before anybody was told
	stores atomic.Int64    // how often the store has changed; another one has other windows
}

// notification is one as it came first.
type notification struct {
	seq   int64
	count int
	at    time.Time
	store int64 // as stores was
}

// awaitNotifications returns the endpoint, which takes everything.
func awaitNotifications(t testing.TB) *notified {
	t.Helper()
	n := &notified{told: map[int64]map[string]notification{}, lost: map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		data, err := io.ReadAll(q.Body)
		if err != nil {
			return // the worker was killed
		}
		var request struct {
			Type string `json:"type"`
			Data struct {
				User, Seq int64
				Count     int
			} `json:"data"`
		}
		assert.NoError(t, json.Unmarshal(data, &request, json.MatchCaseInsensitiveNames(true)))
		assert.Equal(t, "notification", request.Type)
		n.note(q.Header.Get("webhook-id"), request.Data.User, notification{request.Data.Seq, request.Data.Count, time.Now(), n.stores.Load()})
	}))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

// flags returns those of a worker that notifies the endpoint.
func (n *notified) flags(t testing.TB) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `endpoints:
- name: all
  url: %s
  secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]
  allow_private: true
`, n.url), 0o600))
	return []string{"--handlers=notify", "--notify-webhooks=" + path, "--notify-window=" + notifyWindow.String(), "--notify-group-limit=1"}
}

// note notes a notification. The same one may come again after its process has died. Another one comes no earlier than a window
// after the one before, unless a backup was put back between them.
func (n *notified) note(id string, user int64, x notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told[user] == nil {
		n.told[user] = map[string]notification{}
	}
	if _, again := n.told[user][id]; again {
		return
	}
	for _, before := range n.told[user] {
		if pause := x.at.Sub(before.at); user == notifyAway && x.store == before.store && pause < notifyWindow*9/10 {
			n.faults = append(n.faults, fmt.Sprintf("user %d was told again after %s", user, pause))
		}
	}
	n.told[user][id] = x
}

// write has one user write to another who is never there, and to one who has muted the conversation, until the traffic ends.
func (n *notified) write(ctx context.Context, c *Crowd, gateway string, until <-chan struct{}) {
	t := c.t
	t.Helper()
	n.crowd = c
	n.sender = &talker{ID: notifySender, url: gateway, journal: c.Journal}
	require.NoError(t, n.sender.connect(ctx))
	for _, user := range []int64{notifyAway, notifyMuted} {
		c.Journal.Members(events.Direct(notifySender, user), notifySender)
	}
	muted, end := &talker{ID: notifyMuted, url: gateway, journal: oracle.New()}, int64(forever)
	require.NoError(t, muted.connect(ctx))
	require.NoError(t, muted.insist(ctx, client.Settings{
		Conversation: events.Direct(notifySender, notifyMuted), Settings: events.Settings{MutedUntil: &end},
	}))
	require.NoError(t, muted.Client.Close())
	c.others = append(c.others, n.history)
	c.speaking.Go(func() error {
		for i := 0; ; i++ {
			select {
			case <-until:
				return nil
			case <-time.After(notifyEvery):
			}
			c.silence.RLock()
			err := n.sender.Say(ctx, client.ToUser([]int64{notifyAway, notifyMuted}[i%2]), fmt.Sprintf("%d-%d", notifySender, i))
			c.silence.RUnlock()
			if err != nil {
				return err
			}
		}
	})
}

func (n *notified) history(ctx context.Context) error {
	for _, user := range []int64{notifyAway, notifyMuted} {
		if err := n.sender.History(ctx, events.Direct(notifySender, user)); err != nil {
			return err
		}
	}
	return nil
}

// excuse notes that nobody need be told of the messages which nobody was told of yet. The log is about to lose them.
func (n *notified) excuse(ctx context.Context) error {
	all, err := wholeHistory(ctx, n.sender.Client, events.Direct(notifySender, notifyAway))
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	told := n.latest()
	for _, m := range all {
		if m.Seq > told {
			n.lost[m.ID] = true
		}
	}
	return nil
}

// latest returns the latest message that the user who is away was told of. The mutex is held.
func (n *notified) latest() (seq int64) {
	for _, x := range n.told[notifyAway] {
		seq = max(seq, x.seq)
	}
	return seq
}

// judge waits until the user who is away was told of every message, by one notification for all of a window, and requires that
// nobody was told who need not be: who has muted the conversation, or whose connection never ended.
func (n *notified) judge(ctx context.Context) {
	t := n.crowd.t
	t.Helper()
	all, err := wholeHistory(ctx, n.sender.Client, events.Direct(notifySender, notifyAway))
	require.NoError(t, err)
	due, last := 0, int64(0)
	for _, m := range all {
		if !n.lost[m.ID] {
			due++
			last = m.Seq
		}
	}
	counted := 0
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		counted = 0
		for _, x := range n.told[notifyAway] {
			counted += x.count
		}
		return n.latest() >= last && counted >= due
	}, notifyTaken+Healing, sendEvery, "of the messages since the last losses not all were told")
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Empty(t, n.faults)
	require.Empty(t, n.told[notifyMuted], "the user has muted the conversation")
	for _, k := range n.crowd.Talkers {
		if k.away.Load() == 0 {
			require.Empty(t, n.told[k.ID], "user %d was never away", k.ID)
		}
	}
	require.Positive(t, due)
	require.Less(t, len(n.told[notifyAway]), len(all), "one notification for all messages of a window")
	t.Logf("%d notifications of %d messages, of which %d are due", len(n.told[notifyAway]), len(all), due)
	require.NoError(t, n.sender.Client.Close())
}
