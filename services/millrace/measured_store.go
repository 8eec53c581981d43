package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/telemetry"
)

// measuredStore measures the calls to a store.
type measuredStore struct {
	storeBackend
	duration *prometheus.HistogramVec
	errors   *prometheus.CounterVec
}

func measureStore(reg prometheus.Registerer, db storeBackend) storeBackend {
	s := measuredStore{
		storeBackend: db,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_store_duration_seconds", Help: "Duration of calls to the store.", Buckets: telemetry.LatencyBuckets(),
		}, []string{"operation"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_store_errors_total", Help: "Calls to the store that failed; of a batch each record that did.",
		}, []string{"operation"}),
	}
	reg.MustRegister(s.duration, s.errors)
	return s
}

// done notes a call that has ended. ErrNotFound is an answer and no error.
func (s measuredStore) done(operation string, begin time.Time, errs ...error) {
	s.duration.WithLabelValues(operation).Observe(time.Since(begin).Seconds())
	failed := s.errors.WithLabelValues(operation) // the series exists from the first call, at zero
	for _, err := range errs {
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			failed.Inc()
		}
	}
}

func (s measuredStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	begin := time.Now()
	errs := s.storeBackend.SaveBatch(ctx, batch)
	s.done("save_batch", begin, errs...)
	return errs
}

func (s measuredStore) History(ctx context.Context, conversation string, page store.Page) ([]store.StoredMessage, bool, error) {
	begin := time.Now()
	messages, more, err := s.storeBackend.History(ctx, conversation, page)
	s.done("history", begin, err)
	return messages, more, err
}

func (s measuredStore) Message(ctx context.Context, conversation, id string) (store.StoredMessage, error) {
	begin := time.Now()
	m, err := s.storeBackend.Message(ctx, conversation, id)
	s.done("message", begin, err)
	return m, err
}

func (s measuredStore) SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	begin := time.Now()
	at, err := s.storeBackend.SentAt(ctx, messages)
	s.done("sent_at", begin, err)
	return at, err
}

func (s measuredStore) ChangeSeq(ctx context.Context, conversation, eventID string) (int64, error) {
	begin := time.Now()
	seq, err := s.storeBackend.ChangeSeq(ctx, conversation, eventID)
	s.done("change_seq", begin, err)
	return seq, err
}

func (s measuredStore) ReadMark(ctx context.Context, user int64, conversation string) (int64, error) {
	begin := time.Now()
	seq, err := s.storeBackend.ReadMark(ctx, user, conversation)
	s.done("read_mark", begin, err)
	return seq, err
}

func (s measuredStore) Heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error) {
	begin := time.Now()
	heads, more, err := s.storeBackend.Heads(ctx, user, behind, limit)
	s.done("heads", begin, err)
	return heads, more, err
}

func (s measuredStore) Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error) {
	begin := time.Now()
	records, err := s.storeBackend.Missed(ctx, user, ranges, limit)
	s.done("missed", begin, err)
	return records, err
}

func (s measuredStore) Memberships(ctx context.Context, user int64) ([]store.Membership, error) {
	begin := time.Now()
	memberships, err := s.storeBackend.Memberships(ctx, user)
	s.done("memberships", begin, err)
	return memberships, err
}

func (s measuredStore) Stays(ctx context.Context, user, group int64) ([]store.Membership, error) {
	begin := time.Now()
	stays, err := s.storeBackend.Stays(ctx, user, group)
	s.done("stays", begin, err)
	return stays, err
}

func (s measuredStore) Group(ctx context.Context, id int64) (store.Group, error) {
	begin := time.Now()
	g, err := s.storeBackend.Group(ctx, id)
	s.done("group", begin, err)
	return g, err
}

func (s measuredStore) Members(ctx context.Context, group int64) ([]int64, error) {
	begin := time.Now()
	members, err := s.storeBackend.Members(ctx, group)
	s.done("members", begin, err)
	return members, err
}

func (s measuredStore) ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error) {
	begin := time.Now()
	id, err := s.storeBackend.ReserveGroup(ctx, owner, clientMsgID, drawn)
	s.done("reserve_group", begin, err)
	return id, err
}

func (s measuredStore) Stored(ctx context.Context) (map[int32]int64, error) {
	begin := time.Now()
	stored, err := s.storeBackend.Stored(ctx)
	s.done("stored", begin, err)
	return stored, err
}

func (s measuredStore) SaveUsers(ctx context.Context, records []events.Record) error {
	begin := time.Now()
	err := s.storeBackend.SaveUsers(ctx, records)
	s.done("save_users", begin, err)
	return err
}

func (s measuredStore) LastSeen(ctx context.Context, ids []int64) (map[int64]events.Record, error) {
	begin := time.Now()
	seen, err := s.storeBackend.LastSeen(ctx, ids)
	s.done("last_seen", begin, err)
	return seen, err
}

func (s measuredStore) OnlineUsers(ctx context.Context, partition int32) ([]int64, error) {
	begin := time.Now()
	online, err := s.storeBackend.OnlineUsers(ctx, partition)
	s.done("online_users", begin, err)
	return online, err
}

func (s measuredStore) Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error) {
	begin := time.Now()
	blocks, err := s.storeBackend.Blocks(ctx, pairs)
	s.done("blocks", begin, err)
	return blocks, err
}

func (s measuredStore) Blocked(ctx context.Context, by int64, limit int) ([]int64, error) {
	begin := time.Now()
	users, err := s.storeBackend.Blocked(ctx, by, limit)
	s.done("blocked", begin, err)
	return users, err
}

func (s measuredStore) SaveRevocations(ctx context.Context, records []events.Record) error {
	begin := time.Now()
	err := s.storeBackend.SaveRevocations(ctx, records)
	s.done("save_revocations", begin, err)
	return err
}

func (s measuredStore) RevokedBefore(ctx context.Context, user int64) (int64, error) {
	begin := time.Now()
	before, err := s.storeBackend.RevokedBefore(ctx, user)
	s.done("revoked_before", begin, err)
	return before, err
}
