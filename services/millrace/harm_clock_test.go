package main

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/config"
	"millrace/infra/pubsub"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// clockOff is how far the clock of one message node is ahead.
const clockOff = time.Hour

// fastBus is the bus of a node whose clock is ahead. It changes the timestamps of what the node publishes, which is all that
// others learn of a node's clock.
type fastBus struct{ pubsub.Bus }

func (b fastBus) Publisher() message.Publisher { return fastPublisher{b.Bus.Publisher()} }

type fastPublisher struct{ message.Publisher }

var timestamps = regexp.MustCompile(`"(timestamp|edited_at)":\d+`)

func (p fastPublisher) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		m.Payload = timestamps.ReplaceAllFunc(m.Payload, func(b []byte) []byte {
			name, value, _ := strings.Cut(string(b), ":")
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return b
			}
			return strconv.AppendInt([]byte(name+":"), seconds+int64(clockOff.Seconds()), 10)
		})
	}
	return p.Publisher.Publish(topic, messages...)
}

// The clocks of two message nodes differ by an hour. A crowd chats, edits and recalls over both, and nothing is out of order.
func TestHarmClockOfOneNodeAnHourOff(t *testing.T) {
	proof.NeedsHarm(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	var fast *grpcServer
	stopFast := startInside(t, config.Message, fx.Options(
		fx.Decorate(func(b pubsub.Bus) pubsub.Bus { return fastBus{b} }), fx.Populate(&fast),
	), "--data-dir="+dir, "--kafka-brokers="+strings.Join(d.brokers, ","), "--message-addr=127.0.0.1:0")
	var gateway *gatewayServer
	stopGateway := startInside(t, config.Connect, fx.Populate(&gateway), "--jwt-secret="+proof.Secret,
		"--connect-addr=127.0.0.1:0", "--message-addrs="+d.grpc.Addr()+","+fast.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 4*proof.Healing)
	defer cancel()
	url := "ws://" + gateway.Addr() + "/ws"
	crowd := proof.StartCrowd(ctx, t, []string{url, url})
	crowd.GoesOn("with clocks an hour apart")

	page, err := crowd.Talkers[0].Client.History(ctx, client.History{Conversation: crowd.Room, Limit: 200})
	require.NoError(t, err)
	ahead, back := 0, 0
	for i, m := range page.Messages {
		switch {
		case m.Recalled:
			continue
		case time.Until(time.Unix(m.Timestamp, 0)) > clockOff/2:
			ahead++
		case i > 0 && m.Timestamp < page.Messages[i-1].Timestamp:
			back++
		}
	}
	require.Positive(t, ahead, "messages of the node whose clock is ahead")
	require.Positive(t, back, "messages after them of the other one")
	t.Logf("of %d messages %d are of the node whose clock is ahead; %d times one of the other follows", len(page.Messages), ahead, back)
	crowd.End(ctx)
	stopGateway()
	stopFast()
	d.stop()
}
