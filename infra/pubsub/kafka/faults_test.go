package kafka

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/broker"
	"millrace/infra/pubsub"
)

// faulty returns a broker whose responses the test can change, with a topic of one partition and a bus.
func faulty(t *testing.T, c Config) (*kfake.Cluster, *Bus) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.Ports(0), kfake.SeedTopics(1, "topic"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	c.Brokers = cluster.ListenAddrs()
	return cluster, open(t, c)
}

func numbered(from, to int) []*message.Message {
	var msgs []*message.Message
	for i := from; i < to; i++ {
		msg := message.NewMessage(fmt.Sprint(i), fmt.Append(nil, i))
		msg.Metadata.Set(pubsub.KeyHeader, "key")
		msgs = append(msgs, msg)
	}
	return msgs
}

// inLog returns the payloads of the topic's only partition.
func inLog(t *testing.T, bus *Bus) []string {
	t.Helper()
	log := bus.Log("topic")
	end, err := log.End(t.Context())
	require.NoError(t, err)
	var values []string
	require.NoError(t, log.Read(t.Context(), []events.Range{{Through: end[0]}}, func(r pubsub.RawRecord) error {
		values = append(values, string(r.Value))
		return nil
	}))
	return values
}

func publishError(t *testing.T, err error) *pubsub.PublishError {
	t.Helper()
	var refused *pubsub.PublishError
	require.ErrorAs(t, err, &refused)
	return refused
}

// failProduce makes the next n produce requests fail. The broker does not handle them, unless the error leaves that open.
func failProduce(cluster *kfake.Cluster, n int, with *kerr.Error) {
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: with, Count: n})
}

// stopProduce holds back the next produce request until it is released; the broker handles it then.
func stopProduce(cluster *kfake.Cluster) (reached <-chan struct{}, release func()) {
	at, goOn := make(chan struct{}), make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.DropControl()
		close(at)
		cluster.SleepControl(func() { <-goOn })
		return nil, nil, false
	})
	return at, sync.OnceFunc(func() { close(goOn) })
}

func TestRefusedPublishLeavesNothingBehindTheFailure(t *testing.T) {
	cluster, bus := faulty(t, Config{})
	failProduce(cluster, 1, kerr.InvalidRecord)
	err := bus.Publisher().Publish("topic", numbered(0, 2500)...)
	require.ErrorIs(t, err, kerr.InvalidRecord)
	require.Zero(t, publishError(t, err).Accepted)
	require.Empty(t, inLog(t, bus))
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 3)...))
	require.Equal(t, []string{"0", "1", "2"}, inLog(t, bus))
}

func TestPublishRefusedHalfwayReturnsHowManyWereAccepted(t *testing.T) {
	cluster, bus := faulty(t, Config{})
	var first kmsg.Request
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.InvalidRecord,
		When: func(req kmsg.Request) bool {
			if first == nil {
				first = req
			}
			return req != first
		},
	})
	msgs := numbered(0, 2*maxBatchRecords+500)
	accepted := publishError(t, bus.Publisher().Publish("topic", msgs...)).Accepted
	require.Positive(t, accepted)
	require.LessOrEqual(t, accepted, maxBatchRecords, "of the first request; on a slow machine the client puts fewer into it")
	require.Len(t, inLog(t, bus), accepted)
	for i, msg := range msgs {
		_, err := bus.Position(msg)
		require.Equal(t, i < accepted, err == nil, "message %d", i)
	}
}

func TestPublishTriesAgainWhatTheBrokerCouldNotDoYet(t *testing.T) {
	cluster, bus := faulty(t, Config{})
	failProduce(cluster, 3, kerr.NotLeaderForPartition)
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 5)...))
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, inLog(t, bus))
}

func TestLostAnswerDoublesNothing(t *testing.T) {
	cluster, bus := faulty(t, Config{})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 1)...))
	// The first time the connection breaks and the request is not handled. The second time it is handled, and the response
	// says that it was not.
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("connection lost"), true
	})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(1, 3)...))
	failProduce(cluster, 2, kerr.RequestTimedOut)
	require.NoError(t, bus.Publisher().Publish("topic", numbered(3, 6)...))
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5"}, inLog(t, bus))
}

func TestPublishReturnsInTimeAndNothingOvertakes(t *testing.T) {
	cluster, bus := faulty(t, Config{PublishTimeout: 2 * time.Second})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 1)...))
	reached, release := stopProduce(cluster)
	defer release()
	var first, second error
	var publishing sync.WaitGroup
	publishing.Go(func() { first = bus.Publisher().Publish("topic", numbered(1, 3)...) })
	<-reached
	publishing.Go(func() { second = bus.Publisher().Publish("topic", numbered(3, 5)...) })
	publishing.Wait()
	require.Zero(t, publishError(t, first).Accepted)
	require.Zero(t, publishError(t, second).Accepted)

	release()
	require.Eventually(t, func() bool {
		return bus.Publisher().Publish("topic", numbered(5, 6)...) == nil
	}, 30*time.Second, 10*time.Millisecond)
	// Messages 1 to 4 may or may not be in the log, but none of them after one that was published later.
	values := inLog(t, bus)
	require.IsIncreasing(t, values)
	require.Equal(t, "5", values[len(values)-1])
}

func TestPublishThatIsNeverAnsweredFailsInTime(t *testing.T) {
	cluster, bus := faulty(t, Config{PublishTimeout: 2 * time.Second})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 1)...))
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, nil, true // neither handled nor answered
	})
	require.Zero(t, publishError(t, bus.Publisher().Publish("topic", numbered(1, 3)...)).Accepted)
	require.Eventually(t, func() bool {
		return bus.Publisher().Publish("topic", numbered(3, 5)...) == nil
	}, 30*time.Second, 10*time.Millisecond)
	values := inLog(t, bus)
	require.IsNonDecreasing(t, values)
	require.Equal(t, "4", values[len(values)-1])
}

func TestPublishBeyondTheBoundIsRefusedAtOnce(t *testing.T) {
	cluster, bus := faulty(t, Config{MaxPending: 10})
	reached, release := stopProduce(cluster)
	defer release()
	var group errgroup.Group
	group.Go(func() error { return bus.Publisher().Publish("topic", numbered(0, 8)...) })
	<-reached
	require.ErrorIs(t, bus.Publisher().Publish("topic", numbered(8, 11)...), pubsub.ErrBusy)
	release()
	require.NoError(t, group.Wait())
	require.NoError(t, bus.Publisher().Publish("topic", numbered(8, 11)...))
	require.Len(t, inLog(t, bus), 11)
}

func TestPublishSurvivesARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	addr := b.Addr()
	_, err = admin(t, []string{addr}).CreateTopic(t.Context(), 1, -1, nil, "topic")
	require.NoError(t, err)
	bus := open(t, Config{Brokers: []string{addr}, PublishTimeout: 20 * time.Second})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 3)...))
	require.NoError(t, b.Close())

	var group errgroup.Group
	group.Go(func() error { return bus.Publisher().Publish("topic", numbered(3, 6)...) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	<-ctx.Done() // the publish meets a broker that is away
	b, err = broker.Start(broker.Config{Addr: addr, DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	require.NoError(t, group.Wait())
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5"}, inLog(t, bus))
}

func TestPublishToABrokerThatIsAwayFailsInTime(t *testing.T) {
	cluster, bus := faulty(t, Config{PublishTimeout: 2 * time.Second})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 1)...))
	cluster.Close()
	began := time.Now()
	require.Zero(t, publishError(t, bus.Publisher().Publish("topic", numbered(1, 2)...)).Accepted)
	require.Less(t, time.Since(began), 30*time.Second)
}

func TestAFailedCallIsInTheLogUpToWhereItSays(t *testing.T) {
	t.Run("every third request refused", func(t *testing.T) { failSome(t, map[int]*kerr.Error{3: kerr.InvalidRecord}) })
	t.Run("every seventh with an unknown outcome", func(t *testing.T) {
		failSome(t, map[int]*kerr.Error{3: kerr.InvalidRecord, 7: kerr.RequestTimedOut})
	})
}

// failSome publishes while every n-th request fails. For each call, the log must contain a prefix of its messages, and no
// more than were reported as accepted unless the outcome could be unknown.
func failSome(t *testing.T, faults map[int]*kerr.Error) {
	const publishers, calls = 6, 40
	cluster, bus := faulty(t, Config{})
	requests := make(map[kmsg.Request]int)
	every := func(n int, with *kerr.Error) kfake.Fault {
		return kfake.Fault{
			Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: with, Count: -1,
			When: func(req kmsg.Request) bool {
				if _, ok := requests[req]; !ok {
					requests[req] = len(requests) + 1
				}
				return requests[req]%n == 0
			},
		}
	}
	for n, err := range faults {
		cluster.Fault(every(n, err))
	}

	accepted := make([][calls]int, publishers)
	size := func(p, c int) int { return 1 + (7*p+3*c)%20 }
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for c := range calls {
				msgs := make([]*message.Message, size(p, c))
				for i := range msgs {
					msgs[i] = message.NewMessage("", fmt.Appendf(nil, "%d/%d/%d", p, c, i))
					msgs[i].Metadata.Set(pubsub.KeyHeader, "key")
				}
				err := bus.Publisher().Publish("topic", msgs...)
				accepted[p][c] = len(msgs)
				if refused := new(pubsub.PublishError); errors.As(err, &refused) {
					accepted[p][c] = refused.Accepted
				}
			}
		})
	}
	publishing.Wait()

	byCall := make(map[string][]string)
	for _, value := range inLog(t, bus) {
		call, number := path.Split(value)
		byCall[call] = append(byCall[call], number)
	}
	some := 0
	for p := range publishers {
		for c := range calls {
			got := byCall[fmt.Sprintf("%d/%d/", p, c)]
			for i, number := range got {
				require.Equal(t, fmt.Sprint(i), number, "call %d of publisher %d", c, p)
			}
			if len(faults) == 1 {
				require.Len(t, got, accepted[p][c], "call %d of publisher %d", c, p)
			}
			require.GreaterOrEqual(t, len(got), accepted[p][c], "call %d of publisher %d", c, p)
			some += accepted[p][c]
		}
	}
	require.NotZero(t, some)
	require.Less(t, some, publishers*calls*10, "nothing failed")
}

// The messages of a call are in the log together or not at all only if they are in one record batch.
func TestACallIsOneBatch(t *testing.T) {
	const calls = 40
	cluster, bus := faulty(t, Config{})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 1)...))
	requests := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Observe: true, Count: -1})
	for range calls {
		require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 500)...))
	}
	// franz-go may split a batch if the machine stood still for longer than the linger.
	require.GreaterOrEqual(t, requests.Hits(), calls)
	require.Less(t, requests.Hits(), calls+calls/10)
}
