package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// ill says what is wrong with a store.
type ill struct {
	mu      sync.Mutex
	delay   time.Duration
	refused string // content of the records that it cannot save
	down    bool
	fails   int // counts the calls while it was down
}

func (i *ill) failed() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fails
}

func (i *ill) set(delay time.Duration, refused string, down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.delay, i.refused, i.down = delay, refused, down
}

// illStore is a store that saves slowly, saves nothing, or refuses some records.
type illStore struct {
	storeWriter
	*ill
}

func (s *illStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	s.mu.Lock()
	delay, refused, down := s.delay, s.refused, s.down
	if down {
		s.fails++
	}
	s.mu.Unlock()
	proof.Wait(ctx, delay)
	errs := make([]error, len(batch))
	var some []events.Record
	var at []int
	for i, r := range batch {
		if down || refused != "" && r.Message != nil && r.Message.Content == refused {
			errs[i] = errDown
			continue
		}
		some, at = append(some, r), append(at, i)
	}
	if len(some) > 0 {
		for i, err := range s.storeWriter.SaveBatch(ctx, some) {
			errs[at[i]] = err
		}
	}
	return errs
}

// pace holds how long messages took until they were answered, and until they were pushed.
type pace struct{ answered, shown []time.Duration }

func (p pace) median() (answered, shown time.Duration) {
	slices.Sort(p.answered)
	slices.Sort(p.shown)
	return p.answered[len(p.answered)/2], p.shown[len(p.shown)/2]
}

// Whatever is wrong with the store, sends are answered and messages pushed as fast as before, and what was not stored is
// stored once the store is well again.
func TestHarmStoreSlowDownAndRefusingARecord(t *testing.T) {
	besideOthers(t)
	const each = 50
	const attempts = 5 // per record, before it is given back to come again
	var store ill
	d := startDevWith(t, t.TempDir(), fx.Decorate(func(w storage.Store) storage.Store { return &illStore{w, &store} }))
	apart := proof.Apart(t, d.brokers)
	a, b, c := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil), proof.Join(t, d.url(), apart, nil)
	sent := 0
	chat := func() (p pace) {
		for range each {
			content := fmt.Sprint(sent)
			sent++
			begin := time.Now()
			a.Sends(t, client.ToUser(proof.Bob), content)
			p.answered = append(p.answered, time.Since(begin))
			require.Equal(t, []string{content}, b.Reads(t, 1))
			p.shown = append(p.shown, time.Since(begin))
		}
		return p
	}
	stored := func(u *proof.User, conversation string) int {
		after, n := int64(0), 0
		for {
			page, err := u.History(t.Context(), client.History{Conversation: conversation, AfterSeq: &after, Limit: 200})
			require.NoError(t, err)
			for _, m := range page.Messages {
				after = m.Seq
			}
			if n += len(page.Messages); !page.More {
				return n
			}
		}
	}
	drained := func(what string) {
		t.Helper()
		proof.EventuallyTrue(t, "the backlog of a store that was "+what+" is stored", func() bool {
			return stored(b, events.Direct(proof.Alice, proof.Bob)) == sent
		})
	}
	chat() // warms up
	answered, shown := chat().median()
	drained("well")
	for what, set := range map[string]func(){
		"slow": func() { store.set(500*time.Millisecond, "", false) },
		"down": func() { store.set(0, "", true) },
	} {
		set()
		begin := time.Now()
		x, y := chat().median()
		t.Logf("%s: answered in %s (%.1f times as long as before), shown in %s (%.1f)",
			what, x, float64(x)/float64(answered), y, float64(y)/float64(shown))
		if what == "down" {
			require.Less(t, stored(b, events.Direct(proof.Alice, proof.Bob)), sent)
			proof.EventuallyTrue(t, "no retry helps", func() bool { return store.failed() > 2*attempts })
			for *proof.DoHarm && time.Since(begin) < time.Minute {
				chat()
				proof.Wait(t.Context(), time.Second)
			}
		}
		store.set(0, "", false)
		drained(what)
	}

	store.set(0, "refused", false)
	a.Sends(t, client.ToUser(proof.Bob), "refused")
	sent++
	require.Equal(t, []string{"refused"}, b.Reads(t, 1))
	x, y := chat().median()
	t.Logf("refusing a record: answered in %s (%.1f), shown in %s (%.1f)", x, float64(x)/float64(answered), y, float64(y)/float64(shown))
	for _, content := range proof.Numbered(0, 20) {
		a.Sends(t, client.ToUser(apart), content)
	}
	require.Equal(t, proof.Numbered(0, 20), c.Reads(t, 20))
	require.Equal(t, proof.Numbered(0, 20), contents(eventually(t, c, events.Direct(proof.Alice, apart), 20)), "other partitions are stored")
	require.Less(t, stored(b, events.Direct(proof.Alice, proof.Bob)), sent)
	store.set(0, "", false)
	drained("refusing a record")
	require.Empty(t, listPoison(t, d.brokers), "what fails for a while is not poisoned")
}
