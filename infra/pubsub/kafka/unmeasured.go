package kafka

import "github.com/rcrowley/go-metrics"

// unmeasured is a registry for metrics that nobody reads. Sarama updates a histogram for every partition in every fetch; here
// all of its metrics are ones that do nothing. What Millrace exports about its consumers it measures itself.
type unmeasured struct{ metrics.Registry }

// GetOrRegister returns a metric of the kind that the function would make, and registers nothing. It must return one of the
// right kind, since Sarama asserts the type.
func (u unmeasured) GetOrRegister(name string, metric any) any {
	switch metric.(type) {
	case func() metrics.Meter:
		return metrics.NilMeter{}
	case func() metrics.Histogram:
		return metrics.NilHistogram{}
	case func() metrics.Counter:
		return metrics.NilCounter{}
	}
	return u.Registry.GetOrRegister(name, metric)
}
