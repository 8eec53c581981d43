package broker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// If childDir is set in the environment, the test binary is a broker with that data directory on childAddr until it is killed
// or its standard input ends.
const (
	childDir  = "MILLRACE_TEST_BROKER_DIR"
	childAddr = "MILLRACE_TEST_BROKER_ADDR"
)

func serveAsChild(dir string) {
	b, err := Start(Config{Addr: os.Getenv(childAddr), DataDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(b.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := b.Close(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// child is a broker in a process of its own.
type child struct {
	addr  string
	stdin io.Closer
	cmd   *exec.Cmd
}

func startChild(t *testing.T, addr, dir string) *child {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childAddr+"="+addr)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return &child{addr: strings.TrimSpace(line), stdin: stdin, cmd: cmd}
}

func TestAKilledBrokerLosesNothingThatWasAccepted(t *testing.T) {
	const partitions = 4
	dir := t.TempDir()
	first := startChild(t, "127.0.0.1:0", dir)
	addr := first.addr
	client := connect(t, addr)
	admin := kadm.NewClient(client)
	_, err := admin.CreateTopic(t.Context(), partitions, -1, nil, "topic")
	require.NoError(t, err)

	accepted := make(map[string]bool)
	sent := 0
	publish := func(n int) {
		for range n {
			value := fmt.Sprint(sent)
			record := &kgo.Record{Topic: "topic", Partition: int32(sent % partitions), Value: []byte(value)}
			sent++
			require.NoError(t, client.ProduceSync(t.Context(), record).FirstErr())
			accepted[value] = true
		}
	}
	// The first broker ends regularly, so that the files it writes at its end are out of date when the next one is killed.
	publish(50)
	require.NoError(t, first.stdin.Close())
	require.NoError(t, first.cmd.Wait())
	second := startChild(t, addr, dir)
	publish(50)
	commit := func(at int64) {
		offsets := make(kadm.Offsets)
		for p := range int32(partitions) {
			offsets.AddOffset("topic", p, at, -1)
		}
		require.NoError(t, admin.CommitAllOffsets(t.Context(), "group", offsets))
	}
	commit(7)
	commit(11)

	// The broker is killed while records are published. Records that it has not acknowledged are sent again to the next one.
	var publishing sync.WaitGroup
	publishing.Go(func() { publish(500) })
	require.Eventually(t, func() bool {
		ends, err := admin.ListEndOffsets(t.Context(), "topic")
		end, _ := ends.Lookup("topic", 0)
		return err == nil && end.Offset > 50
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, second.cmd.Process.Kill())
	_ = second.cmd.Wait() // killed
	b := start(t, addr, dir)
	publishing.Wait()

	inLog := consume(t, b.Addr(), "topic")
	for value := range accepted {
		require.Contains(t, inLog, value)
	}
	committed, err := admin.FetchOffsets(t.Context(), "group")
	require.NoError(t, err)
	for p := range int32(partitions) {
		offset, ok := committed.Lookup("topic", p)
		require.True(t, ok)
		require.Equal(t, int64(11), offset.At)
	}
}

// consume returns how often each value is in the topic.
func consume(t *testing.T, addr, topic string) map[string]int {
	t.Helper()
	client := connect(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	values := make(map[string]int)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for left > 0 {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			values[string(r.Value)]++
			left--
		})
	}
	return values
}
