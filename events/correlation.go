package events

import "context"

// CorrelationHeader is the record header that ties a record to the request which caused it.
const CorrelationHeader = "correlation_id"

type correlationKey struct{}

// WithCorrelation returns a context that carries the correlation id.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation is the id that the context carries, empty if none.
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}
