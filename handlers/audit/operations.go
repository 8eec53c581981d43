package audit

import (
	"log/slog"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Operations is the name of the handler of [NewOperations].
const Operations = "operations"

// OperationsModule provides the handler of [NewOperations]; it needs an [OperationsConfig].
func OperationsModule() fx.Option { return fx.Module(Operations, provide(NewOperations)) }

// OperationsConfig says where the log of operations is.
type OperationsConfig Config

// NewOperations returns the handler that keeps a log of its own of the calls by keys of the API that permit everything: which
// key, when, what call and what it was about. A line is written before the call is made or a moment later, and says nothing of how
// the call has ended.
func NewOperations(c OperationsConfig, log *slog.Logger) *Audit {
	return &Audit{
		journal: newJournal(Config(c)), log: log.With("handler", Operations), entry: newOperation,
		handler: events.Handler{
			Name: Operations, Topic: events.TopicSystem, Types: []events.Type{events.OperatorCalled}, Group: Operations + "-consumer-group",
			Gather: 250 * time.Millisecond, // calls are rare, and brokers are not to be asked all the time for them
		},
	}
}

// operation is one line of the log of operations.
type operation struct {
	When   int64             `json:"when"` // Unix seconds
	Key    string            `json:"key"`
	Method string            `json:"method"`
	Target map[string]string `json:"target,omitempty"`
	ID     string            `json:"id"` // the correlation id of what the call publishes
	place
}

func newOperation(r *events.Record) entry {
	o := &operation{When: r.Timestamp, ID: r.EventID, place: placeOf(r)}
	if r.Call != nil {
		o.Key, o.Method, o.Target = r.Call.Key, r.Call.Method, r.Call.Target
	}
	return o
}
