package proof

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// Task chaos runs TestChaos with these flags.
var (
	chaosSeeds = flag.Int("chaos.seeds", 0, "runs of chaos, each with the next seed")
	chaosFirst = flag.Uint64("chaos.first", 0, "the first seed; 0: drawn")
	chaosLog   = flag.String("chaos.log", "kfake", "broker: kfake or kafka")
	chaosMarks = flag.String("chaos.marks", "memory", "where handlers keep their marks: memory or redis")
	chaosStore = flag.String("chaos.store", "sqlite", "store: sqlite or mongodb")
	chaosJSON  = flag.String("chaos.json", "", "file that gets a line of JSON per run")
)

// chaosRun is the result of a run.
type chaosRun struct {
	Seed     uint64         `json:"seed"`
	Log      string         `json:"log"`
	Marks    string         `json:"marks"`
	Store    string         `json:"store"`
	Accepted int            `json:"accepted"`
	Changed  int            `json:"changed"`
	Rejected int            `json:"rejected"`
	Told     int            `json:"told"` // senders, of a recall by moderation
	Moved    int            `json:"members_moved"`
	Reloaded int            `json:"reloaded"` // clients that had missed more than is resumed
	Failed   bool           `json:"failed"`
	Faults   []chaosOutcome `json:"faults"`
}

// chaosOutcome holds how many seconds after the beginning of a fault everybody had a message acknowledged, and had got one
// that was sent after the beginning; 0: not while there was traffic.
type chaosOutcome struct {
	fault
	AckedAfter     float64 `json:"acked_after"`
	DeliveredAfter float64 `json:"delivered_after"`
}

// Processes, networks and clients fail, the log loses records, and a store in SQLite is put back or one in MongoDB does not
// answer, as the seed determines, while clients send, edit, recall, join, leave, rename, set, block, mute and give roles, and an
// operator sends notices. Rules reject some messages, change others, have others copied, and others and floods recalled; the
// webhook handler sends to an endpoint that fails half of the time. In the end nothing may be lost, doubled, out of order, or
// different for anybody, and what handlers have counted, written, copied and sent is exact. The same seed gives the same faults.
//
// Losses of the log come when everything is stored and shown, and cost the other handlers no more than what they have not read
// yet. A second version of handlers, which begins at the oldest record, has what the log still has.
func TestChaos(t *testing.T) {
	if *chaosSeeds == 0 {
		t.Skip("takes 40 s a seed: task chaos runs it")
	}
	first := *chaosFirst
	if first == 0 {
		first = uint64(time.Now().UnixNano()) % 1_000_000
	}
	for seed := first; seed < first+uint64(*chaosSeeds); seed++ {
		t.Run(fmt.Sprintf("%s/seed=%d", *chaosLog, seed), func(t *testing.T) { runChaos(t, seed) })
	}
}

func runChaos(t *testing.T, seed uint64) {
	c := newSplitCluster(t)
	rules := filepath.Join(c.dataDir, "rules.yaml")
	require.NoError(t, writeRules(rules))
	c.deciding = []string{"--rules=" + rules}
	require.Contains(t, []string{"sqlite", "mongodb"}, *chaosStore)
	if *chaosStore == "mongodb" {
		c.startMongoServer()
	}
	var flags []string
	if *chaosMarks == "redis" {
		flags = append(flags, "--redis-addr="+c.startRedis().ready)
	}
	if *chaosLog == "kafka" {
		c.startKafka(1, flags...)
	} else {
		c.startEmbedded(flags...)
	}
	broker := c.processes[0].name
	if c.mongoDB != nil {
		c.processes = append(c.processes, c.mongoDB)
	}
	r := newReceiver(t)
	endpoints := filepath.Join(c.dataDir, "webhooks.yaml")
	require.NoError(t, r.writeEndpoints(endpoints))
	c.another("moderation", "worker", "--handlers=moderation", "--rules="+rules)
	c.another("analytics", "worker", "--handlers=analytics")
	c.another("route", "worker", "--handlers=route")
	c.another("webhook", "worker", "--handlers=webhook", "--webhooks="+endpoints)
	told := awaitNotifications(t)
	c.another("notify", "worker", told.flags(t)...)
	recount := c.addLike(recounting, "worker", "--handlers=analytics,audit,webhook", "--webhooks="+endpoints, "--version=2", "--from=earliest")
	ctx, cancel := context.WithTimeout(t.Context(), chaosTraffic+5*Healing)
	defer cancel()
	crowd := startCrowd(ctx, t, c.gateways, true)
	traffic, quiet := context.WithCancel(ctx)
	defer quiet()
	crowd.welcomeGuests(ctx, c.gateways, traffic.Done())
	crowd.arrange(ctx, traffic.Done())
	dispute := crowd.dispute(ctx, c.gateways, traffic.Done())
	told.write(ctx, crowd, c.gateways[1], traffic.Done())
	notices := announce(ctx, crowd, c.operators(t), traffic.Done())
	sdk := crowd.joinSDK(ctx, c.gateways, traffic.Done())
	kept := newFigures(c, r, crowd.Journal)
	kept.told = told

	run := &chaosRun{Seed: seed, Log: *chaosLog, Marks: *chaosMarks, Store: *chaosStore}
	defer func() {
		run.Accepted, run.Changed, run.Failed = crowd.Journal.AckedCount(), crowd.Journal.AgreedCount(), t.Failed()
		run.Moved, run.Reloaded, run.Rejected = crowd.moved, crowd.reloads(), crowd.Journal.RejectedCount()
		run.Told = crowd.Journal.ToldCount()
		run.tell(t)
	}()
	faults := append(schedule(seed, broker, c.mongoDB != nil, len(c.proxies), len(crowd.Talkers)), losses(seed, c.mongoDB != nil)...)
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	require.NoError(t, run.suffer(ctx, t, &chaos{cluster: c, crowd: crowd, figures: kept, dispute: dispute}, faults))
	quiet()
	recount.start(t)
	notices.judge(ctx)
	crowd.End(ctx)
	dispute.settle(ctx)
	if sdk != nil {
		sdk.end(ctx, t)
	}
	require.Greater(t, crowd.Journal.AckedCount(), 500)
	require.Greater(t, crowd.Journal.RejectedCount(), 10)
	require.Greater(t, crowd.Journal.ToldCount(), 10)
	kept.judge(ctx)
	kept.judgeRecount(ctx)
	told.judge(ctx)
	c.stopAll()
}

// suffer goes through the schedule. It returns when the traffic is to end and every fault is over.
func (r *chaosRun) suffer(ctx context.Context, t *testing.T, c *chaos, faults []fault) error {
	var inflicted errgroup.Group
	var mu sync.Mutex
	var measured []*watch
	begin := time.Now()
	for _, f := range faults {
		Wait(ctx, f.At-time.Since(begin))
		t.Log(f)
		mu.Lock()
		measured = append(measured, c.crowd.watches.start())
		mu.Unlock()
		inflicted.Go(func() error {
			if err := c.inflict(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
			return nil
		})
	}
	err := inflicted.Wait()
	for _, p := range c.cluster.processes {
		if p.name != newcomer && p.name != recounting {
			p.awaitReady(t)
		}
	}
	Wait(ctx, chaosTraffic-time.Since(begin))
	for i, f := range faults {
		acked, delivered := c.crowd.watches.of(measured[i])
		r.Faults = append(r.Faults, chaosOutcome{f, acked.Seconds(), delivered.Seconds()})
	}
	return err
}

// tell prints the result of the run for people and as a line of JSON.
func (r *chaosRun) tell(t *testing.T) {
	slowest := chaosOutcome{}
	if len(r.Faults) > 0 {
		slowest = slices.MaxFunc(r.Faults, func(a, b chaosOutcome) int { return int(1000 * (a.AckedAfter - b.AckedAfter)) })
	}
	t.Logf("seed %d on %s, marks in %s, store in %s: %d accepted, %d rejected, %d changed, %d told of recalls by moderation, %d members moved, %d clients reloaded, %d faults; slowest: acknowledged again %.1f s after %s",
		r.Seed, r.Log, r.Marks, r.Store, r.Accepted, r.Rejected, r.Changed, r.Told, r.Moved, r.Reloaded, len(r.Faults), slowest.AckedAfter, slowest.fault)
	if *chaosJSON == "" {
		return
	}
	line, err := json.Marshal(r)
	require.NoError(t, err)
	file, err := os.OpenFile(*chaosJSON, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = file.Write(append(line, '\n'))
	assert.NoError(t, err)
	assert.NoError(t, file.Close())
}
