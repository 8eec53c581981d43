package connect_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// fakeResolver is a DNS in which every host has the same addresses.
type fakeResolver struct {
	mu        sync.Mutex
	addresses []netip.Addr
}

func (r *fakeResolver) set(addresses ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addresses = nil
	for _, address := range addresses {
		r.addresses = append(r.addresses, netip.MustParseAddr(address))
	}
}

func (r *fakeResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.addresses), nil
}

// behindOneName serves push nodes that the resolver lists under the name "push".
func behindOneName(t testing.TB, names *fakeResolver, nodes ...*pushNode) *cluster.Lister {
	t.Helper()
	dial := map[string]func() (cluster.Conn, error){}
	for i, n := range nodes {
		dial[pushAddress(i)+":1"] = listen(t, func(s *grpc.Server) { millracev1.RegisterPushServiceServer(s, n) })
	}
	return &cluster.Lister{
		Names: []string{"push:1"}, Resolver: names, Every: 5 * time.Millisecond,
		Dial: func(_, address string) (cluster.Conn, error) { return dial[address]() },
	}
}

func TestPushNodesBehindOneNameComeAndGo(t *testing.T) {
	w := newWorld(t, 4)
	pushes := []*pushNode{w.newPushNode(0, 1), w.newPushNode(2, 3), w.newPushNode()}
	names := &fakeResolver{}
	names.set(pushAddress(0), pushAddress(1))
	r := startListed(t, connect.Config{}, static([]cluster.Conn{serveMessages(t, &messageNode{w: w})}), behindOneName(t, names, pushes...))
	attached := func(want ...int) {
		t.Helper()
		require.Eventually(t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.EqualFunc(pushes, want, func(n *pushNode, want int) bool { return len(n.attached) == want })
		}, patience, time.Millisecond)
	}
	attached(1, 1, 0)
	c, _ := r.connect(1001)
	said := 0
	saySome := func() { // on all partitions
		t.Helper()
		for user := range int64(20) {
			said++
			content := fmt.Sprint(said)
			w.say(2000+user, 1001, content)
			c.pushed(content)
		}
	}
	saySome()

	names.set(pushAddress(0), pushAddress(1), pushAddress(2))
	attached(1, 1, 1)
	w.set(func(w *world) { pushes[2].take(1, int64(len(w.logs[1]))) })
	saySome()

	names.set(pushAddress(0), pushAddress(2))
	saySome() // the stream of that node goes on
	w.set(func(w *world) {
		pushes[1].breakStreams()
		for p := range int32(4) {
			pushes[0].take(p, int64(len(w.logs[p])))
		}
	})
	attached(1, 0, 1)
	saySome()
}
