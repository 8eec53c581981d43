package kafka

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"millrace/infra/telemetry"
)

func TestPartitionsOfABrokerThatIsAwayLogOneLineForAll(t *testing.T) {
	var text bytes.Buffer
	log := calm{
		telemetry.Watermill{Log: slog.New(slog.NewTextHandler(&text, nil))},
		&rate.Sometimes{Interval: faultInterval},
	}.With(nil)
	for p := range int32(64) {
		log.Error("unreadable", &sarama.ConsumerError{Topic: "topic", Partition: p, Err: errors.New("refused")}, nil)
	}
	log.Error("other", errors.New("another fault"), nil)
	require.Equal(t, 1, strings.Count(text.String(), "unreadable"))
	require.Contains(t, text.String(), "another fault")
}
