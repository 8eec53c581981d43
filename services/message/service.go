// Package message is the API of the message nodes. It checks, authorises and publishes a send, nothing more: storing and
// pushing are done by consumers of the log. It reads from the store up to the stored position and from the log after that, so
// that a store which lags or fails delays nobody who was away only shortly.
//
// The files follow the API: send, batches and run, groups, history and changes, sync and readlog. They use publish (the only
// way to the log), hooks and review (what is asked before a message is accepted), members (who may send to a group), blocks (whose direct messages a user refuses), originals
// (which message a send repeats), current (a message as the log has it now), view (a user's groups at a position), tail (one
// reading of the log for all who wait) and shared (one reading of anything for many callers).
package message

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"millrace/events"
	"millrace/infra/admission"
	"millrace/infra/panics"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// knownUsers is of how many users the groups are remembered, for the time when the store is down.
	knownUsers = 20_000

	// storageGroup is the consumer group of the storage handler.
	storageGroup = "storage-consumer-group"

	endTimeout    = 3 * time.Second
	storedTimeout = time.Second
)

// Deps is what a [Service] needs. Bus, Store and Log are required.
type Deps struct {
	Bus   pubsub.Bus
	Store Store
	Log   *slog.Logger
	// Panics contains panics in work that several calls share. It may be nil.
	Panics *panics.Panics
	// Hooks are asked before a message or an edit is accepted.
	Hooks []Hook
	// Metrics registers the metrics of the hooks. It may be nil.
	Metrics prometheus.Registerer
	// Tracer records the changes of batches that belong to traces. Nil records nothing.
	Tracer *telemetry.Tracer
}

// Service implements millracev1.MessageServiceServer. Errors are gRPC statuses.
type Service struct {
	millracev1.UnimplementedMessageServiceServer

	bus    pubsub.Bus
	store  Store
	log    *slog.Logger
	tasks  *tasks
	slots  *semaphore.Weighted
	reads  *semaphore.Weighted // calls of ReadLog
	caught *semaphore.Weighted // bytes that calls of Sync have collected
	// waiting bounds the batches that may wait for the store.
	waiting *semaphore.Weighted

	drain    sync.Once
	draining chan struct{} // closed when streams are to end

	partitions int32
	ends       *shared[map[int32]int64]
	stored     *shared[map[int32]int64]
	bounds     *shared[map[int32]pubsub.Bounds]
	committed  *shared[map[int32]int64]
	tail       *tail
	members    *members
	blocks     *blocks
	originals  *originals
	hooks      *hooks
	tracer     *telemetry.Tracer
	breaker    breaker
	known      *lru.Cache[int64, knowledge]
}

var _ millracev1.MessageServiceServer = (*Service)(nil)

// New returns a service that is ready at once. It fails if the topic cannot be found. Close it after the gRPC server that
// calls it has stopped, and before the bus and the store.
func New(d Deps) (*Service, error) {
	known, err := lru.New[int64, knowledge](knownUsers)
	if err != nil {
		return nil, err
	}
	t := newTasks()
	t.panics = d.Panics
	topic := d.Bus.Log(events.TopicMessages)
	partitions := topic.Partitions()
	if partitions == 0 {
		return nil, fmt.Errorf("topic %s cannot be found", events.TopicMessages)
	}
	judge, err := admission.New(d.Store, topic)
	if err != nil {
		return nil, err
	}
	s := &Service{
		bus: d.Bus, store: d.Store, log: d.Log, tasks: t,
		slots:      semaphore.NewWeighted(maxInFlight),
		reads:      semaphore.NewWeighted(maxReads),
		caught:     semaphore.NewWeighted(maxCaught),
		waiting:    semaphore.NewWeighted(maxWaiting),
		draining:   make(chan struct{}),
		partitions: partitions,
		ends:       newShared(t, 0, endTimeout, topic.End),
		bounds:     newShared(t, 0, endTimeout, topic.Bounds),
		committed: newShared(t, 0, endTimeout, func(ctx context.Context) (map[int32]int64, error) {
			return topic.Committed(ctx, storageGroup)
		}),
		stored: newShared(t, 0, storedTimeout, func(ctx context.Context) (map[int32]int64, error) {
			stored, err := d.Store.Stored(ctx)
			if err != nil {
				return nil, err
			}
			all := make(map[int32]int64, partitions)
			for p := range partitions {
				all[p] = stored[p]
			}
			return topic.Current(all), nil
		}),
		tail:      newTail(topic, partitions, judge, t),
		originals: newOriginals(d.Store, t),
		tracer:    d.Tracer,
		hooks:     newHooks(d.Hooks, t, d.Metrics, d.Log),
		known:     known,
	}
	s.tail.traces = d.Tracer != nil
	s.members, err = newMembers(d.Store, d.Bus.Log(events.TopicGroups), t, s.storedNow)
	if err != nil {
		return nil, err
	}
	if s.blocks, err = newBlocks(d.Store, d.Bus.Log(events.TopicUsers), t); err != nil {
		return nil, err
	}
	return s, nil
}

// Drain asks the other ends of all SendBatches streams to finish. It returns at once; what they have sent is still answered.
func (s *Service) Drain() { s.drain.Do(func() { close(s.draining) }) }

// Close ends the goroutines in the background and waits for them.
func (s *Service) Close() { s.tasks.close() }
