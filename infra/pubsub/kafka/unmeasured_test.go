package kafka

import (
	"testing"

	"github.com/rcrowley/go-metrics"
	"github.com/stretchr/testify/require"
)

func TestSaramaMeasuresNothingThatNobodyReads(t *testing.T) {
	registry := consumerConfig(Config{}.withDefaults(), 0).MetricRegistry
	metrics.GetOrRegisterMeter("meter", registry).Mark(1)
	metrics.GetOrRegisterCounter("counter", registry).Inc(1)
	histogram, ok := registry.GetOrRegister("histogram", func() metrics.Histogram {
		return metrics.NewHistogram(metrics.NewUniformSample(10))
	}).(metrics.Histogram)
	require.True(t, ok)
	histogram.Update(1)
	require.Zero(t, histogram.Count())
	require.Empty(t, registry.GetAll())
}
