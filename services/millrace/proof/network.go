package proof

import (
	"context"
	"net"
	"sync"
)

// network is the network of a client's connections. It can be cut at any byte, and stop delivering for a while. The zero
// value works.
type network struct {
	mu     sync.Mutex
	conns  []*networkConn
	paused chan struct{} // closed when reading goes on; nil while it does
	budget int           // bytes after which the next connection is cut; 0: never
	cuts   int
	tap    func([]byte) // called with all that is read, if set; one call at a time for each connection
}

type networkConn struct {
	net.Conn
	network *network
	left    int // bytes until the cut; 0: no cut
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &networkConn{Conn: conn, network: n, left: n.budget}
	n.budget = 0
	n.conns = append(n.conns, c)
	return c, nil
}

// cut breaks the present connection and, if bytes is not 0, the next one after so many bytes: in the middle of what was
// missed.
func (n *network) cut(next int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.budget = next
	n.cuts++
	for _, c := range n.conns {
		_ = c.Conn.Close()
	}
	n.conns = nil
}

// pause lets nothing through to the client until the function that it returns is called.
func (n *network) pause() (goOn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	paused := make(chan struct{})
	n.paused = paused
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.paused == paused {
			n.paused = nil
		}
		close(paused)
	}
}

// listen calls the function with all that is read from now on.
func (n *network) listen(tap func([]byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = tap
}

func (c *networkConn) Read(b []byte) (int, error) {
	c.network.mu.Lock()
	paused, tap := c.network.paused, c.network.tap
	c.network.mu.Unlock()
	if paused != nil {
		<-paused
	}
	if c.left > 0 && len(b) > c.left {
		b = b[:c.left]
	}
	n, err := c.Conn.Read(b)
	if tap != nil {
		tap(b[:n])
	}
	if c.left > 0 {
		if c.left -= n; c.left <= 0 {
			_ = c.Conn.Close()
		}
	}
	return n, err
}
