package proof

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/services/client"
)

// A client that repeats nothing by itself sends one message after the other while one of two message nodes stops in order and
// comes back. The client must not notice.
func TestMessageNodeThatStopsInOrderRefusesNoSend(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	defer cancel()
	conn, err := client.Open(ctx, c.gateways[0], nil, nil)
	require.NoError(t, err)
	defer func() { _ = conn.Leave() }()
	tok, err := Token(Alice)(ctx)
	require.NoError(t, err)
	_, err = conn.Connect(ctx, client.Connect{Token: tok})
	require.NoError(t, err)

	restarted, stop := context.WithCancel(ctx)
	defer stop()
	var sending errgroup.Group
	sending.Go(func() error {
		for id := int64(1); restarted.Err() == nil; id++ {
			if err := sendAndWait(ctx, conn, id); err != nil {
				return fmt.Errorf("send %d: %w", id, err)
			}
		}
		return nil
	})
	for _, name := range []string{"message-1", "message-2"} {
		p := c.named(name)
		p.stop(t)
		p.start(t)
		p.awaitReady(t)
	}
	stop()
	require.NoError(t, sending.Wait())
}

func sendAndWait(ctx context.Context, conn *client.Conn, id int64) error {
	if err := conn.Write(id, client.Send{Target: client.ToUser(Bob), Content: "x"}); err != nil {
		return err
	}
	for {
		frame, err := conn.Read(ctx)
		switch {
		case err != nil:
			return err
		case frame.Error != nil:
			return frame.Error
		case frame.Sent != nil:
			return nil
		}
	}
}
