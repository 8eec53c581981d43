package connect_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// A push node that this gateway cannot reach has all partitions, and no other node tells of them.
func TestHarmRecordsOfANodeThatIsCutOffAreReadFromTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	near := w.newPushNode()
	away, err := grpc.NewClient("passthrough:///away", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("cut off") }))
	require.NoError(t, err)
	r := start(t, connect.Config{}, []cluster.Conn{serveMessages(t, &messageNode{w: w})}, []cluster.Conn{servePushes(t, near), away})
	c, _ := r.connect(1)
	w.say(2, 1, "one")
	c.pushed("one")
	w.say(2, 1, "two")
	w.say(2, 1, "three")
	c.pushed("two")
	c.pushed("three")
}

// A push node that the gateway does not know has all partitions, and is alive.
func TestHarmRecordsOfANodeThatIsUnknownAreReadFromTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	near := w.newPushNode()
	unknown := w.newPushNode(0, 1, 2, 3)
	r := start(t, connect.Config{}, []cluster.Conn{serveMessages(t, &messageNode{w: w})}, []cluster.Conn{servePushes(t, near)})
	c, _ := r.connect(1)
	w.say(2, 1, "one")
	w.say(2, 1, "two")
	c.pushed("one")
	c.pushed("two")
	w.set(func(*world) { require.Len(t, unknown.holds, 4) })
}
