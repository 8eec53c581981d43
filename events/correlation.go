package events

import "context"

// CorrelationHeader is the header of a record that holds the id of the request which caused it.
const CorrelationHeader = "correlation_id"

type correlationKey struct{}

// WithCorrelation returns a context that carries the correlation id.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation returns the correlation id that the context carries, or an empty string if it carries none.
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}
