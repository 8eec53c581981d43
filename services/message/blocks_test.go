package message

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
)

// somePairs is a store of blocks and the topic with their changes, in a synctest bubble.
type somePairs struct {
	oneGroup
	blocks    map[store.Pair]store.Block
	committed int64 // the position up to which the group has handled the topic
	restored  bool  // the store is an empty backup
	asked     int   // how often the store was asked
}

func (s *somePairs) Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error) {
	_ = s.now(&s.asked)
	found := map[store.Pair]store.Block{}
	s.mu.Lock()
	for _, pair := range pairs {
		if b, ok := s.blocks[pair]; ok {
			found[pair] = b
		}
	}
	s.mu.Unlock()
	return found, s.wait(ctx)
}

func (s *somePairs) Committed(context.Context, string) (map[int32]int64, error) {
	return map[int32]int64{0: s.committed}, nil
}

func (s *somePairs) Progress(context.Context, string) (map[int32]int64, error) {
	if s.restored {
		return nil, nil
	}
	return map[int32]int64{0: s.committed}, nil
}

func (s *somePairs) Current(positions map[int32]int64) map[int32]int64 { return positions }

var _ pubsub.Log = (*somePairs)(nil)

// aliceBob is Alice, user 1, who may block Bob, user 2.
func aliceBob() store.Pair { return store.Pair{By: 1, User: 2} }

func withBlocks(t *testing.T, test func(t *testing.T, st *somePairs, b *blocks)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		background := newTasks()
		defer background.close()
		st := &somePairs{blocks: map[store.Pair]store.Block{}}
		b, err := newBlocks(st, st, background)
		require.NoError(t, err)
		test(t, st, b)
	})
}

// asks returns whether Alice blocks Bob, according to what a node knows.
func (b *blocks) asks(t *testing.T) bool { return b.have(t, aliceBob())[aliceBob()] }

// have returns those of the pairs that are blocked, according to what a node knows.
func (b *blocks) have(t *testing.T, pairs ...store.Pair) map[store.Pair]bool {
	blocked, err := b.among(t.Context(), pairs...)
	require.NoError(t, err)
	return blocked
}

func blocking(kind events.Type, pair store.Pair) events.Event {
	return events.Event{Type: kind, User: pair.User, By: pair.By}
}

func TestPairIsReadOnceAPairLifeAndNoSendWaitsForIt(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		require.False(t, b.asks(t))
		require.Equal(t, 1, st.asked)
		st.set(func(s *oneGroup) { s.takes = staleWait })
		const lives = 4
		for range lives * int(pairLife/(50*time.Millisecond)) {
			began := time.Now()
			require.False(t, b.asks(t))
			require.Zero(t, time.Since(began))
			time.Sleep(50 * time.Millisecond)
		}
		require.GreaterOrEqual(t, st.asked, lives-1)
		require.LessOrEqual(t, st.asked, lives+1)
	})
}

func TestPairsOfABatchAreAskedForTogether(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		st.blocks[store.Pair{By: 1, User: 9}] = store.Block{Seq: 1, Blocked: true}
		var pairs []store.Pair
		for user := range int64(100) {
			pairs = append(pairs, store.Pair{By: 1, User: user + 2})
		}
		require.Equal(t, map[store.Pair]bool{{By: 1, User: 9}: true}, b.have(t, pairs...))
		require.Nil(t, b.have(t, aliceBob()))
		require.Equal(t, 1, st.asked)
	})
}

func TestNodeThatNobodySendsToFollowsNothing(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		require.False(t, b.asks(t))
		synctest.Wait()
		ends := st.ends
		time.Sleep(time.Hour)
		require.Equal(t, ends, st.ends)
	})
}

func TestBlockOnAnotherNodeHoldsWithinALease(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		for began := time.Now(); time.Since(began) < pairLife/2; time.Sleep(lease / 3) {
			require.False(t, b.asks(t))
		}
		asked := st.asked
		st.set(func(*oneGroup) {}, blocking(events.UserBlocked, aliceBob()))
		time.Sleep(lease)
		require.True(t, b.asks(t))
		require.False(t, b.have(t, store.Pair{By: 2, User: 1})[store.Pair{By: 2, User: 1}], "the other way round")
		st.set(func(*oneGroup) {}, blocking(events.UserUnblocked, aliceBob()))
		time.Sleep(lease)
		require.False(t, b.asks(t))
		require.Equal(t, asked+1, st.asked, "of the pair that was not known")
	})
}

// The group has committed nothing of the topic beyond the first record, so a node that begins reads from there.
func TestBlockThatIsNotStoredWhenANodeBeginsIsSeenInTheLog(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		st.set(func(*oneGroup) { st.committed = 1 }, blocking(events.UserBlocked, store.Pair{By: 5, User: 6}), blocking(events.UserBlocked, aliceBob()))
		require.True(t, b.asks(t))
		require.False(t, b.have(t, store.Pair{By: 5, User: 6})[store.Pair{By: 5, User: 6}], "the store would have it")
	})
}

// The store has less than the group has committed, and gets it again only after the node has begun.
func TestBlockThatAStorePutBackLacksWhenANodeBeginsIsSeenInTheLog(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		st.set(func(*oneGroup) { st.committed, st.restored = 1, true }, blocking(events.UserBlocked, aliceBob()))
		require.True(t, b.asks(t))
	})
}

func TestBlockThatIsSeenBeforeItIsStoredIsNotForgotten(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		st.set(func(*oneGroup) {}, blocking(events.UserUnblocked, aliceBob()))
		st.set(func(*oneGroup) { st.blocks[aliceBob()] = store.Block{Seq: 1} }, blocking(events.UserBlocked, aliceBob()))
		for range 5 { // by the store Bob is not blocked
			require.True(t, b.asks(t))
			time.Sleep(pairLife)
		}
		b.see(&events.Record{Event: blocking(events.UserUnblocked, aliceBob()), Position: events.Position{Seq: 1}})
		require.True(t, b.asks(t), "a record at a lower position changes nothing")
	})
}

func TestBlockThatTheLogDoesNotShowHoldsWithinAPairLife(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		require.False(t, b.asks(t))
		st.set(func(*oneGroup) { st.blocks[aliceBob()] = store.Block{Seq: 1, Blocked: true} })
		time.Sleep(pairLife)
		require.False(t, b.asks(t), "nobody waits for the store")
		synctest.Wait()
		require.True(t, b.asks(t))
		require.Empty(t, b.due)
	})
}

func TestStoreIsAskedWhereChangesMayHaveBeenMissed(t *testing.T) {
	for name, fault := range map[string]func(*oneGroup){
		"the log has lost them": func(s *oneGroup) {
			s.copies, s.trimmed = append(s.copies, blocking(events.UserBlocked, aliceBob())), true
		},
		"too many to be read": func(s *oneGroup) {
			s.copies = append(s.copies, slices.Repeat([]events.Event{blocking(events.UserOnline, aliceBob())}, maxFollowed+1)...)
		},
		"the topic was made anew":   func(s *oneGroup) { s.copies = nil },
		"the topic does not answer": func(s *oneGroup) { s.silent = true },
	} {
		t.Run(name, func(t *testing.T) {
			withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
				st.set(func(*oneGroup) {}, blocking(events.UserOnline, aliceBob()))
				require.False(t, b.asks(t))
				st.set(fault)
				st.set(func(*oneGroup) { st.blocks[aliceBob()] = store.Block{Seq: 7, Blocked: true} })
				time.Sleep(lease)
				require.True(t, b.asks(t))
			})
		})
	}
}

func TestSendsGoOnByWhatIsKnownOfBlocksWhileTheStoreIsDown(t *testing.T) {
	for name, fault := range map[string]func(*oneGroup){
		"failing": func(s *oneGroup) { s.err = errDown },
		"slow":    func(s *oneGroup) { s.takes = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
				st.blocks[aliceBob()] = store.Block{Seq: 1, Blocked: true}
				require.True(t, b.asks(t))
				st.set(fault)
				time.Sleep(time.Hour)

				began := time.Now()
				require.True(t, b.asks(t))
				require.Zero(t, time.Since(began))
				time.Sleep(storeTimeout + storePause)
				began = time.Now()
				unknown := store.Pair{By: 3, User: 4}
				require.Nil(t, b.have(t, unknown), "of whom nothing is known may send")
				require.LessOrEqual(t, time.Since(began), missWait)
				began = time.Now()
				for range 100 {
					require.Nil(t, b.have(t, unknown))
					require.True(t, b.asks(t))
				}
				require.Zero(t, time.Since(began), "nobody waits again so soon")

				st.set(func(s *oneGroup) {
					s.err, s.takes = nil, 0
					st.blocks[unknown], st.blocks[aliceBob()] = store.Block{Seq: 2, Blocked: true}, store.Block{Seq: 3}
				})
				time.Sleep(storeTimeout + storePause)
				require.True(t, b.have(t, unknown)[unknown])
				_ = b.asks(t)
				synctest.Wait()
				require.False(t, b.asks(t))
			})
		})
	}
}

// While neither says what has changed, a message may be one that a block has forbidden, or that it forbids no more.
func TestNobodyKnowsWhoIsBlockedWhileStoreAndLogAreDown(t *testing.T) {
	withBlocks(t, func(t *testing.T, st *somePairs, b *blocks) {
		bobAlice := store.Pair{By: 2, User: 1}
		st.blocks[aliceBob()] = store.Block{Seq: 1, Blocked: true}
		require.Equal(t, map[store.Pair]bool{aliceBob(): true}, b.have(t, aliceBob(), bobAlice))
		st.set(func(s *oneGroup) { s.err, s.silent = errDown, true })
		time.Sleep(time.Hour)
		began := time.Now()
		for range 100 {
			blocked, err := b.among(t.Context(), aliceBob(), bobAlice)
			require.Empty(t, blocked)
			require.Equal(t, codes.Unavailable, codeOf(err))
		}
		require.LessOrEqual(t, time.Since(began), staleWait, "nobody waits again so soon")
		st.set(func(s *oneGroup) { s.silent = false })
		time.Sleep(followTimeout + storePause)
		require.True(t, b.asks(t), "the log tells")
		require.False(t, b.have(t, bobAlice)[bobAlice])
	})
}

func TestPairsThatAreRememberedAreBounded(t *testing.T) {
	withBlocks(t, func(t *testing.T, _ *somePairs, b *blocks) {
		var pairs []store.Pair
		for user := range int64(maxPairs + 100) {
			pairs = append(pairs, store.Pair{By: 1, User: user + 2})
		}
		require.Empty(t, b.have(t, pairs...))
		require.Equal(t, maxPairs, b.pairs.Len())
	})
}
