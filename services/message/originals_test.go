package message

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"millrace/infra/store"
)

// sentStore has every message that it is asked for, sent at 5, and answers as often as the test lets it.
type sentStore struct {
	Store
	answers chan struct{}
	asked   []int
}

func (s *sentStore) SentAt(_ context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	s.asked = append(s.asked, len(messages))
	<-s.answers
	sentAt := make(map[store.MessageKey]int64)
	for _, m := range messages {
		sentAt[m] = 5
	}
	return sentAt, nil
}

func withOriginals(t *testing.T, test func(o *originals, s *sentStore)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, owner := &sentStore{answers: make(chan struct{}, 10)}, newTasks()
		o := newOriginals(s, owner)
		test(o, s)
		close(s.answers)
		owner.close()
	})
}

func key(id string) store.MessageKey { return store.MessageKey{Conversation: "u:1:2", MessageID: id} }

func TestARepeatHasTheOriginalsTimestampIfTheStoreAnswersBeforeTheBroker(t *testing.T) {
	withOriginals(t, func(o *originals, s *sentStore) {
		s.answers <- struct{}{}
		o.look([]store.MessageKey{key("a")})
		synctest.Wait() // here the broker acknowledges
		require.EqualValues(t, 5, o.note("a", original{sentAt: 100}).sentAt)
	})
}

func TestARepeatBehindALateAnswerOfTheStoreHasTheOriginalsTimestamp(t *testing.T) {
	withOriginals(t, func(o *originals, s *sentStore) {
		o.look([]store.MessageKey{key("a")})
		synctest.Wait()
		require.EqualValues(t, 100, o.note("a", original{sentAt: 100}).sentAt, "the store has not answered yet")
		s.answers <- struct{}{}
		synctest.Wait()
		o.look([]store.MessageKey{key("a")})
		require.EqualValues(t, 5, o.note("a", original{sentAt: 200}).sentAt)
		require.Len(t, s.asked, 1)
	})
}

func TestAStoreThatDoesNotAnswerGathersNoMoreThanOneLookUp(t *testing.T) {
	withOriginals(t, func(o *originals, s *sentStore) {
		o.look([]store.MessageKey{key("first")})
		synctest.Wait()
		for i := range 3 * maxLookup {
			id := fmt.Sprint(i)
			o.look([]store.MessageKey{key(id)})
			require.EqualValues(t, 100, o.note(id, original{sentAt: 100}).sentAt)
		}
		s.answers <- struct{}{}
		s.answers <- struct{}{}
		o.tasks.wg.Wait()
		require.Equal(t, []int{1, maxLookup}, s.asked)
	})
}
