package main

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/infra/config"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

const (
	// moves is how many times a member joins or leaves.
	moves = 8
	// movesEvery is how long a member stays at least, and how long it stays away.
	movesEvery = 2 * time.Second
)

// countingStore counts the records that it has saved.
type countingStore struct {
	storeWriter
	saved *atomic.Int64
}

func (s countingStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	errs := s.storeWriter.SaveBatch(ctx, batch)
	for _, err := range errs {
		if err == nil {
			s.saved.Add(1)
		}
	}
	return errs
}

// startStorer runs a worker with the storage handler in this process, on the brokers and the directory of a dev process.
func startStorer(t *testing.T, d *dev, dataDir string, store *ill) (saved *atomic.Int64, stop func()) {
	t.Helper()
	saved = new(atomic.Int64)
	stop = startInside(t, config.Worker, fx.Decorate(func(w storage.Store) storage.Store {
		return countingStore{&illStore{w, store}, saved}
	}), "--handlers=storage", "--data-dir="+dataDir, "--kafka-brokers="+strings.Join(d.brokers, ","), "--message-addr=127.0.0.1:0")
	return saved, stop
}

// Members of the storage group join and leave every two seconds while a crowd chats and one record cannot be saved by
// anybody. Nothing is lost, doubled or out of order, and that record is stored once it can be.
func TestHarmRebalanceWhileAHandlerRefuses(t *testing.T) {
	proof.NeedsHarm(t)
	t.Setenv("MILLRACE_HANDLERS", "push,audit")
	dir := t.TempDir()
	d := startDev(t, dir)
	var store ill
	_, stopHome := startStorer(t, d, dir, &store)
	ctx, cancel := context.WithTimeout(t.Context(), 4*proof.Healing)
	defer cancel()
	crowd := proof.StartCrowd(ctx, t, []string{d.url(), d.url()})
	p := crowd.Probe(ctx, proof.Alice+500, d.url())
	store.set(0, "refused", false)
	require.NoError(t, p.Say(ctx, client.ToUser(p.ID), "refused"))
	crowd.GoesOn("before")

	for range moves / 2 {
		saved, leave := startStorer(t, d, dir, &store)
		proof.Wait(ctx, movesEvery)
		proof.EventuallyTrue(t, "the new member has saved records", func() bool { return saved.Load() >= 10 })
		leave()
		proof.Wait(ctx, movesEvery)
	}
	require.NoError(t, p.History(ctx, p.Conversation))
	require.Equal(t, 1, crowd.Journal.MissingIn(p.Conversation), "what is refused is not stored")
	store.set(0, "", false)
	p.End(ctx, t)
	crowd.End(ctx)
	stopHome()
	d.stop()
}
