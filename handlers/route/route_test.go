package route_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/route"
)

// topics is where copies go. A topic that is away takes only so many copies.
type topics struct {
	mu     sync.Mutex
	copies map[string][]route.Copy
	away   map[string]int
	wrong  map[string]error
}

func (t *topics) PublishCopies(_ context.Context, topic string, copies []route.Copy) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := len(copies), t.wrong[topic]
	if err != nil {
		n = min(n, t.away[topic])
	}
	t.copies[topic] = append(t.copies[topic], copies[:n]...)
	return n, err
}

// origins returns where the originals of the copies on the topic of the route lie.
func (t *topics) origins(name string) []string {
	var origins []string
	for _, c := range t.copies[events.RouteTopic(name)] {
		origins = append(origins, c.Headers[events.OriginHeader])
	}
	return origins
}

func newTopics() *topics {
	return &topics{copies: map[string][]route.Copy{}, away: map[string]int{}, wrong: map[string]error{}}
}

func record(seq int64, routes string) events.Record {
	return events.Record{
		Event: events.Event{
			Type: events.NewMessage, EventID: fmt.Sprint("m", seq),
			Message: &events.Message{MessageID: fmt.Sprint("m", seq), Conversation: "u:1:2", From: 1, To: 2},
		},
		Position: events.Position{Partition: 3, Seq: seq}, Value: []byte(fmt.Sprint("value ", seq)),
		Headers: events.HeaderMap{events.RoutesHeader: routes, "user_type": "guest"},
	}
}

func TestCopyIsTheRecordWithItsOrigin(t *testing.T) {
	to := newTopics()
	h := route.Handler(to)
	r := record(7, "vip,eu")
	require.Equal(t, []error{nil, nil, nil}, h.HandleBatch(t.Context(), []events.Record{r, record(8, "eu"), record(9, "")}))
	require.NoError(t, h.Handle(t.Context(), record(10, "vip")))
	require.Equal(t, []string{"3:7", "3:10"}, to.origins("vip"))
	require.Equal(t, []string{"3:7", "3:8"}, to.origins("eu"))
	require.Equal(t, route.Copy{
		ID: "m7", Key: "u:1:2", Value: []byte("value 7"),
		Headers: map[string]string{events.RoutesHeader: "vip,eu", "user_type": "guest", events.OriginHeader: "3:7"},
	}, to.copies[events.RouteTopic("vip")][0])
	require.NotContains(t, r.Headers, events.OriginHeader, "the record is others' too")
}

func TestAfterACopyHasFailedNoneBehindItIsMadeAndAllComeAgain(t *testing.T) {
	to := newTopics()
	h := route.Handler(to)
	vip := events.RouteTopic("vip")
	to.wrong[vip], to.away[vip] = errors.New("no brokers"), 1
	records := []events.Record{record(7, "vip"), record(8, "vip,eu"), record(9, "eu"), record(10, "vip")}
	errs := h.HandleBatch(t.Context(), records)
	for i, failed := range []bool{false, true, false, true} {
		require.Equal(t, failed, errs[i] != nil, i)
		require.False(t, events.IsPermanent(errs[i]))
	}
	delete(to.wrong, vip)
	for i, err := range errs {
		if err != nil {
			require.NoError(t, h.Handle(t.Context(), records[i]))
		}
	}
	require.Equal(t, []string{"3:7", "3:8", "3:10"}, to.origins("vip"))
	require.Equal(t, []string{"3:8", "3:9", "3:8"}, to.origins("eu"), "a repeat, which has the same event id and origin")
}

func TestUnknownTopicAndOddRouteAreForThePoisonQueue(t *testing.T) {
	to := newTopics()
	h := route.Handler(to)
	to.wrong[events.RouteTopic("gone")] = fmt.Errorf("kafka: %w", route.ErrNoTopic)
	errs := h.HandleBatch(t.Context(), []events.Record{record(7, "gone,vip"), record(8, "vip"), record(9, "vip,no.route"), record(10, "poison")})
	require.ErrorContains(t, errs[0], "copy to message-events.gone: kafka: no such topic")
	require.NoError(t, errs[1])
	require.ErrorContains(t, errs[2], `header routes: route "no.route"`)
	require.ErrorContains(t, errs[3], "poison queue")
	for _, i := range []int{0, 2, 3} {
		require.True(t, events.IsPermanent(errs[i]))
	}
	require.Equal(t, []string{"3:7", "3:8", "3:9"}, to.origins("vip"))

	to.wrong[events.RouteTopic("away")] = errors.New("no brokers")
	err := h.Handle(t.Context(), record(11, "gone,away"))
	require.False(t, events.IsPermanent(err), "what can still be copied is tried again first: %v", err)
}

func TestReplayIsCopiedWithItsOrigin(t *testing.T) {
	to := newTopics()
	replay := record(7, "vip")
	replay.Replay = true
	require.NoError(t, route.Handler(to).Handle(t.Context(), replay))
	require.Equal(t, []string{"3:7"}, to.origins("vip"))
}
