package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// bookkeeper counts how often each trapped content was saved.
type bookkeeper struct {
	storeWriter
	mu    *sync.Mutex
	saves map[string]int
}

func (s bookkeeper) SaveBatch(ctx context.Context, batch []events.Record) []error {
	errs := s.storeWriter.SaveBatch(ctx, batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range batch {
		if errs[i] == nil && r.Message != nil && strings.HasPrefix(r.Message.Content, trap) {
			s.saves[r.Message.Content]++
		}
	}
	return errs
}

// trapping is a store that panics at every content that begins with the trap, while the trap is set.
type trapping struct {
	storeWriter
	set *atomic.Bool
}

func (s trapping) SaveBatch(ctx context.Context, batch []events.Record) []error {
	for _, r := range batch {
		if s.set.Load() && r.Message != nil && strings.HasPrefix(r.Message.Content, trap) {
			panic("trapped")
		}
	}
	return s.storeWriter.SaveBatch(ctx, batch)
}

// Of a thousand messages one is no JSON, one has a member of a wrong type, and one makes a handler panic. All of these get
// into the poison queue with their reasons. The others are stored and pushed. After the fix a replay handles each once, in
// its place.
func TestHarmPoisonOneInAThousand(t *testing.T) {
	proof.NeedsHarm(t)
	const thousands, peers = 8, 20
	t.Setenv("MILLRACE_SEND_RATE", "1000000")
	var set atomic.Bool
	set.Store(true)
	var mu sync.Mutex
	saves := map[string]int{}
	d := startDevWith(t, t.TempDir(), fx.Decorate(func(w storage.Store) storage.Store {
		return trapping{bookkeeper{w, &mu, saves}, &set}
	}))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...))
	require.NoError(t, err)
	defer producer.Close()
	bad := func(key, value string) {
		result := producer.ProduceSync(t.Context(), &kgo.Record{Topic: events.TopicMessages, Key: []byte(key), Value: []byte(value)})
		require.NoError(t, result.FirstErr())
	}

	// Bob is one of the peers; everything that is wrong happens in his conversation.
	conversation := events.Direct(proof.Alice, proof.Bob)
	var toBob []string
	want := map[string]int{}
	for n := range thousands {
		var sending []*client.Sending
		for i := range 997 {
			to, content := proof.Bob+int64(i%peers), fmt.Sprint(n*1000+i)
			if to == proof.Bob {
				if i == 500 {
					content = fmt.Sprint(trap, " ", n)
					want[content] = 1
				}
				toBob = append(toBob, content)
			}
			sending = append(sending, a.Post(t.Context(), client.Send{Target: client.ToUser(to), Content: content}))
			switch i {
			case 200:
				bad(conversation, fmt.Sprint("no JSON ", n))
			case 700:
				bad(conversation, fmt.Sprintf(`{"type":"new_message","message":{"from":"one","to":%d},"timestamp":1}`, n))
			}
		}
		for _, s := range sending {
			_, err := s.Wait()
			require.NoError(t, err)
		}
	}
	require.Equal(t, toBob, b.Reads(t, len(toBob)), "storage's trouble is not push's")
	sound := len(toBob) - thousands
	history := func() (all []string) {
		after := int64(0)
		for more := true; more; {
			page, err := b.History(t.Context(), client.History{Conversation: conversation, AfterSeq: &after, Limit: 200})
			require.NoError(t, err)
			for _, m := range page.Messages {
				all, after = append(all, m.Content), m.Seq
			}
			more = page.More
		}
		return all
	}
	proof.EventuallyTrue(t, "the neighbours of what is poisoned are stored", func() bool { return len(history()) == sound })

	reasons := func() map[string]int {
		n := map[string]int{}
		for _, entry := range listPoison(t, d.brokers) {
			switch {
			case strings.Contains(entry.Reason, "trapped"):
				n[entry.Handler+" panics"]++
			case strings.Contains(entry.Reason, "wrong type of message.from"):
				n[entry.Handler+" wrong type"]++
			case strings.Contains(entry.Reason, "invalid character"):
				n[entry.Handler+" no JSON"]++
			default:
				n[entry.Reason]++
			}
		}
		return n
	}
	wanted := map[string]int{"storage panics": thousands}
	for _, handler := range readers(t, d.brokers) {
		wanted[handler+" wrong type"], wanted[handler+" no JSON"] = thousands, thousands
	}
	last := map[string]int{}
	defer func() {
		if t.Failed() {
			t.Logf("the poison queue should hold %v and holds %v", wanted, last)
		}
	}()
	proof.EventuallyTrue(t, "all that is wrong is in the poison queue", func() bool {
		last = reasons()
		return maps.Equal(wanted, last)
	})

	set.Store(false)
	brokers := "--kafka-brokers=" + strings.Join(d.brokers, ",")
	said, err := run(t, "poison", "replay", "--reason=trapped", brokers)
	require.NoError(t, err)
	require.Contains(t, said, fmt.Sprintf("%d records replayed: %[1]d to the handlers", thousands))
	proof.EventuallyTrue(t, "what was trapped is stored", func() bool { return len(history()) == len(toBob) })
	require.Equal(t, toBob, history(), "in its place")
	said, err = run(t, "poison", "replay", "--reason=trapped", brokers)
	require.NoError(t, err)
	require.Contains(t, said, "0 records replayed")
	d.stop()
	require.Equal(t, want, saves, "once")
}
