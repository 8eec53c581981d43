package kafka

import (
	"context"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// OnBrokerConnect makes continuity a hook of the producer's client. A broker whose log has become shorter was started again,
// or another broker took its partitions over, and in the first case the connections to it are new. So nothing is sent over a
// new connection until a look that began later has found that the log goes on where it was, or the new epochs are settled.
// franz-go calls the hook before it uses the connection.
func (c *continuity) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	if err == nil && c.store != nil && !c.admit(c.life) {
		_ = conn.Close() // the client tries again
	}
}

// admit looks and reports whether the epochs are settled. It waits until they are or the context ends. It does not wait until
// the producer is replaced after topics were made anew, because that waits for what is being published.
func (c *continuity) admit(ctx context.Context) bool {
	for {
		looking, cancel := context.WithTimeout(ctx, lookTimeout)
		err := c.look(looking)
		cancel()
		if err != nil {
			return false
		}
		c.mu.Lock()
		settled, looked := c.settled() == nil, c.looked
		c.mu.Unlock()
		if settled {
			return true
		}
		select {
		case <-looked:
		case <-ctx.Done():
			return false
		}
	}
}
