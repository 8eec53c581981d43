package proof

import (
	"context"
	"crypto/rand"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/services/client"
)

// Secret signs the tokens of all tests.
const Secret = "a-secret-for-tests-of-at-least-32-bytes"

// Patience is how long tests wait for what must happen, however slow the machine is. A broker of Apache Kafka that was killed
// checks hundreds of logs before it responds.
const Patience = 2 * time.Minute

// Token returns the function that a client asks for tokens of the user, signed with Secret.
func Token(user int64) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		return auth.Sign(Secret, auth.Identity{User: user, Expires: time.Now().Add(time.Hour)})
	}
}

// User is a client together with what it got.
type User struct {
	*client.Client
	id   int64
	seen chan client.Push
}

// Group creates a group as the client. It tries again while storing takes longer than the server waits.
func (u *User) Group(ctx context.Context, r client.Request) (group client.Group, err error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if create, ok := r.(client.GroupCreate); ok {
		create.ClientMsgID = rand.Text() // a repeat creates no other group
		r = create
	}
	err = insist(ctx, func() (err error) {
		group, err = u.Client.Group(ctx, r)
		return err
	})
	return group, err
}

// Join connects a user, from the cursor if there is one.
func Join(t testing.TB, url string, id int64, cursor client.Cursor) *User {
	t.Helper()
	return joinBy(t, client.Config{URL: url, Cursor: cursor}, id)
}

// joinBy is like [Join], with more settings of the connection.
func joinBy(t testing.TB, cfg client.Config, id int64) *User {
	t.Helper()
	u := &User{id: id, seen: make(chan client.Push, 100_000)}
	cfg.Token = Token(id)
	cfg.OnPush = func(p client.Push) { u.seen <- p }
	cfg.OnViolation = func(what string) { t.Errorf("user %d: %s", id, what) }
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	var err error
	u.Client, err = client.Dial(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = u.Client.Close() }) // it may be closed already
	return u
}

// Seen returns the channel of the pushes that the user gets, in order.
func (u *User) Seen() <-chan client.Push { return u.seen }

// Sends returns when the message was accepted.
func (u *User) Sends(t testing.TB, to client.Target, content string) client.Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	sent, err := u.Send(ctx, client.Send{Target: to, Content: content})
	require.NoError(t, err)
	return sent
}

// Sees waits for the next push of the type, skipping those of other types.
func (u *User) Sees(t testing.TB, kind string) client.Push {
	t.Helper()
	timeout := time.After(Patience)
	for {
		select {
		case p := <-u.seen:
			if string(p.Type) == kind {
				return p
			}
		case <-timeout:
			require.FailNow(t, "not seen", "user %d waits for %s", u.id, kind)
		}
	}
}

// Reads waits for the next messages and returns their contents.
func (u *User) Reads(t testing.TB, n int) []string {
	t.Helper()
	contents := make([]string, 0, n)
	for range n {
		contents = append(contents, u.Sees(t, "new_message").Message.Content)
	}
	return contents
}

// Stored waits until the history of the conversation has n messages, at most a page, and returns their contents.
func (u *User) Stored(t *testing.T, conversation string, n int) []string {
	t.Helper()
	var contents []string
	Await(t, func() bool {
		page, err := u.History(t.Context(), client.History{Conversation: conversation, Limit: 200})
		if err != nil {
			return false // while the log is not settled
		}
		contents = nil
		for _, m := range page.Messages {
			contents = append(contents, m.Content)
		}
		return len(contents) >= n
	}, "stored")
	return contents
}

// Poisoned returns how many records of message-events were ever poisoned.
func Poisoned(t *testing.T, brokers []string) int64 {
	t.Helper()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer kafka.Close()
	ends, err := kadm.NewClient(kafka).ListEndOffsets(t.Context(), events.PoisonTopic(events.TopicMessages))
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}

// Numbered returns the numbers from `from` up to but not including `to`, in decimal.
func Numbered(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// Await calls the condition in the test's own goroutine, where it may fail the test.
func Await(t *testing.T, is func() bool, what string) {
	t.Helper()
	for begin := time.Now(); !is(); Wait(t.Context(), 100*time.Millisecond) {
		require.Less(t, time.Since(begin), Patience, what)
	}
}

// Online returns which of the users are online.
func (u *User) Online(t *testing.T, users ...int64) []int64 {
	t.Helper()
	present, err := u.Presence(t.Context(), users...)
	require.NoError(t, err)
	return present.Online
}

// Alice, Bob and Carol are users.
const (
	Alice = 1001
	Bob   = 1002
	Carol = 1003
)
