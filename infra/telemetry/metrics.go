package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewMetrics returns a registry with the metrics that every process has: those of the Go runtime and the process, its version
// and its role. Each process has one registry, with which the parts register their metrics. No label names a user, a
// conversation or anything else without bound.
func NewMetrics(version, role string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "millrace_build_info", Help: "Always 1; the labels tell what runs.",
		ConstLabels: prometheus.Labels{"version": version, "role": role},
	})
	info.Set(1)
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info,
	)
	return r
}

// LatencyBuckets returns the buckets of every duration here, in seconds: from half a millisecond to the longest deadline.
func LatencyBuckets() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
}

// AgeBuckets returns the buckets of ages, in seconds: from a moment to a backlog of hours.
func AgeBuckets() []float64 { return []float64{1, 2, 5, 10, 30, 60, 300, 1800, 7200} }
