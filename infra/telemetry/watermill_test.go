package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/require"
)

func TestWatermillsErrorsAreLoggedAndItsDoingsAreNot(t *testing.T) {
	var out bytes.Buffer
	log := Watermill{NewLogger(&out, slog.LevelInfo, "text")}.With(watermill.LogFields{"group": "g1"})

	log.Info("subscribed", nil)
	log.Debug("received", watermill.LogFields{"uuid": "u"})
	log.Trace("acked", nil)
	log.Error("stopped", fmt.Errorf("fetch: %w", context.Canceled), nil)
	require.Empty(t, out.String())

	log.Error("consume", errors.New("connection refused"), watermill.LogFields{"topic": "t1"})
	for _, want := range []string{"level=ERROR", "msg=consume", "group=g1", "topic=t1", `error="connection refused"`} {
		require.Contains(t, out.String(), want)
	}
}
