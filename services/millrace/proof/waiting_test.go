package proof

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// says waits until the process has logged a line with all the words.
func (p *process) says(t *testing.T, words ...string) {
	t.Helper()
	Await(t, func() bool {
		log, err := os.ReadFile(p.log)
		require.NoError(t, err)
	lines:
		for line := range strings.Lines(string(log)) {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue lines
				}
			}
			return true
		}
		return false
	}, "a line with "+strings.Join(words, ", "))
}

// unready checks that the process lives and is not ready, and returns why.
func (p *process) unready(t *testing.T) string {
	t.Helper()
	admin, err := url.Parse(p.ready)
	require.NoError(t, err)
	code, _ := Asks(t, "http://"+admin.Host+"/healthz")
	require.Equal(t, http.StatusOK, code)
	code, why := Asks(t, p.ready)
	require.Equal(t, http.StatusServiceUnavailable, code)
	return why
}

func TestADependencyThatIsAwayAtTheStartIsWaitedForInWords(t *testing.T) {
	t.Parallel()
	free := FreeAddresses(t, 5)
	c := &cluster{t: t, dataDir: t.TempDir()}
	t.Cleanup(c.killAll)
	c.addEmbedded(free[0], free[1])
	c.add("message", readyURL(free[2]), "message", "--data-dir="+c.dataDir, "--kafka-brokers="+free[0],
		"--message-addr=127.0.0.1:0", "--admin-addr="+free[2])
	c.add("worker", readyURL(free[3]), "worker", "--handlers=storage", "--data-dir="+c.dataDir, "--kafka-brokers="+free[0],
		"--mongodb-uri=mongodb://user:sesame@"+free[4]+"/chat", "--admin-addr="+free[3])
	message, worker := c.named("message"), c.named("worker")
	message.start(t)
	worker.start(t)

	message.says(t, "waiting", "for=Kafka", free[0], "connection refused")
	require.Contains(t, message.unready(t), "waiting for Kafka: dial tcp "+free[0]+": connect: connection refused")
	worker.says(t, "waiting", "for=MongoDB", free[4], "connection refused")
	require.Contains(t, worker.unready(t), "waiting for MongoDB: dial tcp "+free[4])
	log, err := os.ReadFile(worker.log)
	require.NoError(t, err)
	require.NotContains(t, string(log), "sesame")
	worker.stop(t)

	broker := c.named("broker")
	broker.start(t)
	message.awaitReady(t)

	require.NoError(t, broker.cmd.Process.Signal(syscall.SIGSTOP))
	Await(t, func() bool {
		code, why := Asks(t, message.ready)
		return code == http.StatusServiceUnavailable && strings.Contains(why, "log: ")
	}, "a frozen broker is told")
	c.add("late", readyURL(free[3]), "worker", "--handlers=audit", "--data-dir="+filepath.Join(c.dataDir, "late"), "--kafka-brokers="+free[0], "--admin-addr="+free[3])
	late := c.named("late")
	late.start(t)
	late.says(t, "waiting", "for=Kafka", free[0], "accepts connections but has not given")
	require.Contains(t, late.unready(t), "waiting for Kafka")
	require.NoError(t, broker.cmd.Process.Signal(syscall.SIGCONT))
	message.awaitReady(t)
	late.awaitReady(t)
	message.stop(t)
	late.stop(t)
	broker.stop(t)
}

func TestNamesThatDNSDoesNotKnowAreWaitedForInWords(t *testing.T) {
	t.Parallel()
	free := FreeAddresses(t, 5)
	c := &cluster{t: t, dataDir: t.TempDir()}
	t.Cleanup(c.killAll)
	const nowhere = "nosuch.invalid"
	worker := func(name, admin string, flags ...string) {
		c.add(name, readyURL(admin), append([]string{"worker", "--handlers=storage", "--data-dir=" + filepath.Join(c.dataDir, name), "--admin-addr=" + admin}, flags...)...)
	}
	worker("kafka", free[0], "--kafka-brokers="+nowhere+":9092")
	worker("mongodb", free[1], "--kafka-brokers="+free[4], "--mongodb-uri=mongodb://user:sesame@"+nowhere+"/chat")
	worker("srv", free[2], "--kafka-brokers="+free[4], "--mongodb-uri=mongodb+srv://user:sesame@"+nowhere+"/chat")
	c.add("connect", readyURL(free[3]), "connect", "--connect-addr=127.0.0.1:0", "--admin-addr="+free[3],
		"--jwks-url=http://user:sesame@"+nowhere+"/keys", "--message-addrs="+nowhere+":9090")
	for _, p := range c.processes {
		p.start(t)
	}
	for name, words := range map[string][]string{
		"kafka": {"for=Kafka", nowhere + ":9092", "lookup " + nowhere}, "mongodb": {"for=MongoDB", nowhere + ":27017", "lookup " + nowhere},
		"srv": {"for=MongoDB", "lookup _mongodb._tcp." + nowhere}, "connect": {"cannot look up nodes", "lookup " + nowhere},
	} {
		p := c.named(name)
		p.says(t, words...)
		require.NotEmpty(t, p.unready(t))
	}
	c.named("connect").says(t, "cannot fetch the key set", "lookup "+nowhere)
	for _, p := range c.processes {
		p.stop(t)
		log, err := os.ReadFile(p.log)
		require.NoError(t, err)
		require.NotContains(t, string(log), "sesame")
	}
}
