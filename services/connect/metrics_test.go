package connect

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestClientsCannotMakeSeriesOfTheirOwn(t *testing.T) {
	m := newMetrics(nil, nil)
	series := testutil.CollectAndCount(m.closes)
	for code := 1000; code < 5000; code++ {
		m.close(code)
	}
	require.Equal(t, series, testutil.CollectAndCount(m.closes))
	require.InDelta(t, 1, testutil.ToFloat64(m.closes.WithLabelValues("4008")), 0)
	require.InDelta(t, 4000-series+1, testutil.ToFloat64(m.closes.WithLabelValues(otherCode)), 0)
}
