package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/storage"
	"millrace/infra/store"
	"millrace/services/client"
	"millrace/services/message"
	"millrace/services/millrace/proof"
)

// slowStore delays what the store does while a message is on its way.
type slowStore struct {
	storeWriter
	storeReader
	delay *atomic.Int64 // nanoseconds
}

func (s *slowStore) wait() { time.Sleep(time.Duration(s.delay.Load())) }

func (s *slowStore) SaveBatch(ctx context.Context, batch []events.Record) []error {
	s.wait()
	return s.storeWriter.SaveBatch(ctx, batch)
}

func (s *slowStore) SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	s.wait()
	return s.storeReader.SentAt(ctx, messages)
}

func (s *slowStore) Stored(ctx context.Context) (map[int32]int64, error) {
	s.wait()
	return s.storeReader.Stored(ctx)
}

// BenchmarkAckWithASlowStore measures how long a send waits for its answer when everything that the store does takes longer by
// 0, 5 and 20 ms. The delays take turns, so that what slows the machine down meets all of them.
func BenchmarkAckWithASlowStore(b *testing.B) {
	var delay atomic.Int64
	d := startDevWith(b, b.TempDir(), fx.Decorate(func(w storage.Store, r message.Store) (storage.Store, message.Store) {
		s := &slowStore{w, r, &delay}
		return s, s
	}))
	user := proof.Join(b, d.url(), proof.Alice, nil)
	delays := []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond}
	took := make([][]time.Duration, len(delays))
	for b.Loop() {
		for i := range delays {
			delay.Store(int64(delays[i]))
			for range 20 { // so that most are sent while the store has this delay
				begin := time.Now()
				user.Sends(b, client.ToUser(proof.Bob), "hello")
				took[i] = append(took[i], time.Since(begin))
			}
		}
	}
	without := time.Duration(0)
	for i, all := range took {
		slices.Sort(all)
		p50 := all[len(all)/2]
		if i == 0 {
			without = p50
		}
		b.ReportMetric(float64(p50.Microseconds()), fmt.Sprintf("p50-µs/%v", delays[i]))
		b.ReportMetric(p50.Seconds()/without.Seconds(), fmt.Sprintf("ratio/%v", delays[i]))
	}
}
