// Package broker runs the embedded Kafka broker: kfake on one port, with a data directory. It speaks Kafka's protocol, so
// Millrace and any other Kafka client (kcat, Sarama, franz-go) use it like a cluster of one node.
//
// The broker writes every record batch and every committed offset to its file before it acknowledges it, without waiting for
// the disk. So nothing that was accepted is lost when the process is killed; when the machine loses power, the last seconds
// may be lost. Asking for a topic never creates it; infra/pubsub/kafka creates topics.
package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/infra/pubsub"
)

// Config says where the broker listens and keeps its data.
type Config struct {
	// Addr is the host:port to listen on, which clients are also told to connect to. Port 0 takes a free port.
	Addr string
	// DataDir holds topics, records, offsets and the identity of the cluster. Only one broker at a time can use it.
	DataDir string
	// Log receives the broker's warnings and errors. Nil means none.
	Log *slog.Logger
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	lock    *flock.Flock
	addr    string

	stopChores context.CancelFunc
	chores     sync.WaitGroup
}

// settings returns the broker's settings. [Broker.retain] does the retention: kfake's own removes also the last record of a
// partition, and if it is killed before the next record comes, it gives the same offset a second time.
func settings() map[string]string {
	return map[string]string{
		"log.cleaner.backoff.ms":    "315360000000", // ten years: never
		"log.segment.bytes":         "16777216",
		"message.max.bytes":         strconv.Itoa(maxUnpackedBytes),
		"offsets.retention.minutes": "5256000", // ten years: a handler that was off for a month goes on where it was
	}
}

// Start opens the data directory, which it creates if necessary, and listens. The broker serves when Start returns.
func Start(c Config) (*Broker, error) {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("broker address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("broker address %q: name the host that clients connect to, not all of them", c.Addr)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	lock, err := lockDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	cluster, err := kfake.NewCluster(
		kfake.Ports(0), // one broker, on the port of the listener
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(context.Background(), network, c.Addr)
		}),
		kfake.DataDir(c.DataDir),
		kfake.ClusterID(pubsub.EmbeddedCluster+rand.Text()), // for a new directory; an old one keeps its own
		kfake.BrokerConfigs(settings()),
		kfake.WithLogger(logger{c.Log}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start broker on %s in %s: %w", c.Addr, c.DataDir, err), lock.Close())
	}
	b := &Broker{cluster: cluster, lock: lock, addr: cluster.ListenAddrs()[0]}
	ctx, cancel := context.WithCancel(context.Background())
	b.stopChores = cancel
	b.chores.Go(func() { retainHourly(ctx, b.addr, c.Log) })
	silence := &silence{}
	silence.listen(cluster)
	keepReadable(cluster, c.Log)
	b.chores.Go(func() { silence.sweep(ctx, b.addr, c.Log) })
	return b, nil
}

// Addr returns the host:port for clients.
func (b *Broker) Addr() string { return b.addr }

// Ping returns nil if the broker responds to a client.
func (b *Broker) Ping(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	return client.Ping(ctx)
}

// Close stops listening, writes what makes the next start fast and unlocks the data directory.
func (b *Broker) Close() error {
	b.stopChores()
	b.chores.Wait()
	b.cluster.Close()
	if err := b.lock.Close(); err != nil {
		return fmt.Errorf("unlock broker's data directory: %w", err)
	}
	return nil
}

func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("broker's data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock broker's data directory %s: %w", dir, err)
	case !locked:
		return nil, errors.Join(fmt.Errorf("another millrace uses the data directory %s", dir), lock.Close())
	}
	return lock, nil
}
