package broker

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"millrace/events"
)

func TestKcatProducesAndConsumes(t *testing.T) {
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Skip("kcat is not installed")
	}
	b := start(t, "127.0.0.1:0", t.TempDir())
	_, err = kadm.NewClient(connect(t, b.Addr())).CreateTopic(t.Context(), 16, -1, nil, "topic")
	require.NoError(t, err)
	run := func(input string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), kcat, append([]string{"-b", b.Addr(), "-t", "topic"}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	keys := []string{"u:1:2", "u:1001:1002", "g:77"}
	var input strings.Builder
	for _, key := range keys {
		input.WriteString(key + "\thello " + key + "\n")
	}
	run(input.String(), "-P", "-K", "\t", "-X", "topic.partitioner=murmur2")
	lines := strings.Split(strings.TrimSpace(run("", "-C", "-e", "-q", "-f", "%p %k %s\n")), "\n")
	var want []string
	for _, key := range keys {
		want = append(want, fmt.Sprintf("%d %s hello %s", events.Partition(key, 16), key, key))
	}
	require.ElementsMatch(t, want, lines)
}
