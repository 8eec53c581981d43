package proof

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killTraffic is how long clients send while processes are killed.
const killTraffic = 20 * time.Second

// Every process is killed once. Afterwards nothing may be lost, doubled or out of order, and every process must stop in
// order.
func TestNothingIsLostDoubledOrDisorderedWhenEachProcessIsKilledOnce(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), killTraffic+2*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	pause := time.NewTicker(killTraffic / 7)
	defer pause.Stop()
	for _, name := range []string{"message-1", "connect-1", "worker", "message-2", "broker", "connect-2"} {
		<-pause.C
		t.Logf("%d acknowledged; kill %s", crowd.Journal.AckedCount(), name)
		p := c.named(name)
		p.kill()
		p.start(t)
	}
	<-pause.C
	crowd.End(ctx)
	require.Greater(t, crowd.Journal.AckedCount(), 1000)
	c.stopAll()
}
