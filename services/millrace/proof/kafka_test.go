package proof

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kafkaEnv is the directory in which Apache Kafka is installed.
const kafkaEnv = "MILLRACE_TEST_KAFKA"

// kafkaAway is how long Kafka is away after it was stopped: longer than the sessions of consumers last.
const kafkaAway = 10 * time.Second

// startOnKafka starts a cluster on brokers of Apache Kafka.
func startOnKafka(t *testing.T, brokers int, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dataDir: t.TempDir()}
	c.startKafka(brokers, flags...)
	return c
}

// startSplitOnKafka starts a cluster with storage workers and proxies on one broker of Apache Kafka.
func startSplitOnKafka(t *testing.T) *cluster {
	t.Helper()
	c := newSplitCluster(t)
	c.startKafka(1)
	return c
}

func (c *cluster) startKafka(brokers int, flags ...string) {
	t := c.t
	t.Helper()
	installed := os.Getenv(kafkaEnv)
	if installed == "" {
		t.Skip("needs Apache Kafka: task test:kafka installs it and runs this")
	}
	t.Setenv("KAFKA_DIR", installed)
	free := FreeAddresses(t, 2*brokers)
	var controllers []string
	for i, address := range free[brokers:] {
		controllers = append(controllers, fmt.Sprintf("%d@%s", i+1, address))
	}
	for i, address := range free[:brokers] {
		name := fmt.Sprintf("kafka-%d", i+1)
		c.add(name, address)
		c.named(name).path = "../../../deployments/kafka/kafka.sh"
		c.named(name).args = []string{
			"run", c.dataDir + "/" + name, port(t, address), port(t, free[brokers+i]),
			fmt.Sprint(i + 1), strings.Join(controllers, ","),
		}
		c.named(name).exit = 143 // Java ends with it after SIGTERM
	}
	c.startOn(t, free[:brokers], flags...)
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	return port
}

func TestKafkaThatStopsAndIsKilledLosesDoublesAndDisordersNothing(t *testing.T) {
	c := startOnKafka(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("before")
	kafka := c.named("kafka-1")
	kafka.stop(t)
	<-time.After(kafkaAway)
	kafka.start(t)
	crowd.GoesOn("after it was stopped for a while")
	kafka.kill()
	kafka.start(t)
	crowd.GoesOn("after it was killed")
	crowd.End(ctx)
	c.stopAll()
}

// With three replicas, two of which must have a record, one broker may be missing at any time and sending goes on.
func TestKafkaBrokerOfThreeThatIsKilledLosesDoublesAndDisordersNothing(t *testing.T) {
	c := startOnKafka(t, 3, "--topic-replication=3", "--topic-min-isr=2")
	ctx, cancel := context.WithTimeout(t.Context(), 4*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("before")
	killed := c.named("kafka-1")
	killed.kill()
	crowd.GoesOn("without a broker that was killed")
	killed.start(t)
	killed.awaitReady(t)
	crowd.GoesOn("after it came back")
	crowd.End(ctx)
	c.stopAll()
}
