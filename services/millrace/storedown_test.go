package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/infra/store"
	"millrace/services/client"
	"millrace/services/message"
	"millrace/services/millrace/proof"
)

type (
	storeWriter = storage.Store
	storeReader = message.Store
)

// switchedStore is a store that fails while it is switched off.
type switchedStore struct {
	storeWriter
	storeReader
	down *atomic.Bool
}

var errDown = errors.New("the store is down")

func (s *switchedStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	if !s.down.Load() {
		return s.storeWriter.SaveBatch(ctx, batch)
	}
	errs := make([]error, len(batch))
	for i := range errs {
		errs[i] = errDown
	}
	return errs
}

func (s *switchedStore) Stored(ctx context.Context) (map[int32]int64, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.storeReader.Stored(ctx)
}

func (s *switchedStore) Memberships(ctx context.Context, user int64) ([]store.Membership, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.storeReader.Memberships(ctx, user)
}

func (s *switchedStore) Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error) {
	if s.down.Load() {
		return nil, errDown
	}
	return s.storeReader.Missed(ctx, user, ranges, limit)
}

func (s *switchedStore) Group(ctx context.Context, id int64) (store.Group, error) {
	if s.down.Load() {
		return store.Group{}, errDown
	}
	return s.storeReader.Group(ctx, id)
}

// switched puts the switch between the store and everybody who uses it.
func switched(down *atomic.Bool) fx.Option {
	return fx.Decorate(func(w storage.Store, r message.Store) (storage.Store, message.Store) {
		s := &switchedStore{w, r, down}
		return s, s
	})
}

func TestEndToEndWhileTheStoreIsDownMessagesAreAcceptedPushedAndResumed(t *testing.T) {
	besideOthers(t)
	var down atomic.Bool
	d := startDevWith(t, t.TempDir(), switched(&down))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	group, err := a.Group(t.Context(), client.GroupCreate{Name: "g", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	toGroup := client.ToGroup(group.GroupID)
	a.Sends(t, toGroup, "up")
	require.Equal(t, []string{"up"}, b.Reads(t, 1))

	down.Store(true)
	for _, content := range proof.Numbered(0, 20) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	require.Equal(t, proof.Numbered(0, 20), b.Reads(t, 20))
	a.Sends(t, toGroup, "still a member")
	require.Equal(t, []string{"still a member"}, b.Reads(t, 1))

	require.NoError(t, b.Close())
	for _, content := range proof.Numbered(20, 30) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	back := proof.Join(t, d.url(), proof.Bob, b.Cursor())
	require.True(t, back.Session().Complete, "a short absence is made good from the log")
	require.Equal(t, proof.Numbered(20, 30), back.Reads(t, 10))

	down.Store(false)
	require.Equal(t, proof.Numbered(0, 30), contents(eventually(t, back, "u:1001:1002", 30)))
}

func TestEndToEndWhatTheStoreMustGiveFollowsOnceItIsBack(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "known")
	require.Equal(t, []string{"known"}, b.Reads(t, 1))
	require.NoError(t, b.Close())
	a.Sends(t, client.ToUser(proof.Bob), "missed")
	require.NoError(t, a.Close())
	d.stop()

	// After a restart bob's groups are not remembered, so only the store knows what he may see.
	var down atomic.Bool
	down.Store(true)
	d = startDevWith(t, dir, switched(&down))
	back := proof.Join(t, d.url(), proof.Bob, b.Cursor())
	require.False(t, back.Session().Complete)
	require.True(t, back.Session().Recovered)
	proof.Join(t, d.url(), proof.Alice, nil).Sends(t, client.ToUser(proof.Bob), "live")
	live := back.Sees(t, "new_message")
	require.Equal(t, "live", live.Message.Content)
	require.Empty(t, live.Pos, "a cursor must not skip what is missing")

	down.Store(false)
	missed := back.Sees(t, "new_message")
	require.Equal(t, "missed", missed.Message.Content)
	require.Less(t, missed.Seq, live.Seq)
	complete := back.Sees(t, "complete")
	position, err := events.ParsePosition(missed.Pos)
	require.NoError(t, err)
	require.GreaterOrEqual(t, complete.Cursor[position.Partition], live.Seq)
}
