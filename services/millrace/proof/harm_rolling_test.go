package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
)

// complaints are the errors that a client got, word for word, and the ends of its connections for other reasons than that the
// server goes away.
type complaints struct {
	mu   sync.Mutex
	rest []byte // the end of what was read, where an error may begin
	all  []string
}

func (c *complaints) read(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const begin, longest = `"error":{"code":"`, 200
	c.rest = append(c.rest, b...)
	for {
		i := bytes.Index(c.rest, []byte(begin))
		if i < 0 {
			c.rest = bytes.Clone(c.rest[max(0, len(c.rest)-len(begin)):])
			return
		}
		end := bytes.IndexByte(c.rest[i:], '}')
		if end < 0 && len(c.rest)-i < longest {
			c.rest = bytes.Clone(c.rest[i:])
			return
		}
		if end < 0 {
			end = longest
		}
		c.all = append(c.all, string(c.rest[i:i+end]))
		c.rest = c.rest[i+end:]
	}
}

func (c *complaints) left(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var closed *client.CloseError
	if errors.As(err, &closed) && closed.Code != client.CloseGoingAway {
		c.all = append(c.all, fmt.Sprint("closed: ", closed))
	}
}

// take returns the complaints since the last call.
func (c *complaints) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// Every process is stopped in order and started again, one after the other, while a crowd chats. Clients must notice nothing
// except gateways that ask them to reconnect, and nothing is lost, doubled or out of order. Nothing replaces the embedded
// broker: while it is away sends may be refused as unavailable.
func TestHarmRollingRestartOfEveryRole(t *testing.T) {
	NeedsHarm(t)
	t.Parallel()
	c := startSplitCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	all := make([]*complaints, len(crowd.Talkers))
	for i, k := range crowd.Talkers {
		all[i] = &complaints{}
		left := all[i].left
		k.left.Store(&left)
		k.network.listen(all[i].read)
	}
	crowd.GoesOn("before")
	renew := func(name string) (complaints []string) {
		t.Helper()
		p := c.named(name)
		p.stop(t)
		p.start(t)
		p.awaitReady(t)
		crowd.GoesOn(name + " was renewed")
		for _, c := range all {
			complaints = append(complaints, c.take()...)
		}
		return complaints
	}
	for _, name := range []string{"message-1", "message-2", "storage-1", "storage-2", "worker", "connect-1", "connect-2"} {
		require.Empty(t, renew(name), name)
	}
	for _, complaint := range renew("broker") {
		require.Contains(t, complaint, client.Unavailable)
	}
	crowd.End(ctx)
	c.stopAll()
}
