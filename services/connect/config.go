package connect

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/panics"
	"millrace/infra/telemetry"
)

// Config holds the settings of a gateway. A zero value means the default in parentheses.
type Config struct {
	// Name is the gateway's name in the logs of push nodes.
	Name string
	// Metrics is where the gateway registers its metrics. Nil means nowhere.
	Metrics prometheus.Registerer
	// Tracer records clients' requests, and deliveries that belong to a trace. Nil records nothing.
	Tracer *telemetry.Tracer
	// Panics contains panics in sessions and in the gateway's loops. It may be nil.
	Panics *panics.Panics
	// AllowedOrigins lists browser origins ("https://chat.example.org") that may connect, beside the gateway's own host. "*"
	// allows any.
	AllowedOrigins []string

	// SendRate is how many sends a user may make per second, and also the burst (2,000). If all connections of a user
	// together receive more than ten times as many frames of any kind, the connection that receives the next one is closed.
	SendRate int
	// UserConnections is how many connections a user may have to this gateway (100). Those of one device count as one.
	UserConnections int
	// MaxFrame is the largest frame accepted from a client, in bytes (64 KiB).
	MaxFrame int64
	// OutboxFrames and OutboxBytes bound the pushes that wait for one client (4,096 and 1 MiB). A client with more is too
	// slow and is closed. Answers to its requests count separately: while they take more than half of either bound, the
	// gateway does not read its next requests.
	OutboxFrames int
	OutboxBytes  int
	// Unanswered bounds the unanswered changes of one connection (1,024); each change of a group counts as a quarter of that.
	// At the bound the gateway stops reading from the client until one is answered.
	Unanswered int

	// ConnectTimeout is how long a client may take to send its connect (10 s).
	ConnectTimeout time.Duration
	// Ping is the interval of pings (25 s). A client that has shown no sign of life for two of them is closed.
	Ping time.Duration
	// WriteTimeout bounds one write to a socket (10 s). A connection that is being closed has as long for the write under way
	// and the close frame.
	WriteTimeout time.Duration
	// CloseTimeout is how long a client may take to answer a close frame (5 s).
	CloseTimeout time.Duration
	// AnswerTimeout is the time within which a client has its answer, whatever happens (5 s).
	AnswerTimeout time.Duration
	// CallTimeout is the deadline of calls to message nodes, shorter than AnswerTimeout (4.5 s).
	CallTimeout time.Duration
	// AckWait is how long a connecting session waits for push nodes to acknowledge its channels (1 s).
	AckWait time.Duration
	// KeepInterest is how long a channel stays registered after its last session left (30 s).
	KeepInterest time.Duration
	// OfflineAfter is how long a user must have had no connection before others are told (5 s). A user who comes back sooner
	// was never offline to them.
	OfflineAfter time.Duration
	// Retry is the shortest pause before the gateway asks again for what the store could not return; the longest pause is
	// twice that (1 s).
	Retry time.Duration
	// OrderHold is how long a conversation refuses later sends after the client has seen that one was refused as unavailable
	// (1 s).
	OrderHold time.Duration
}

func (c Config) withDefaults() Config {
	or(&c.Name, "gateway")
	or(&c.SendRate, 2000)
	or(&c.UserConnections, 100)
	or(&c.MaxFrame, 64<<10)
	or(&c.OutboxFrames, 4096)
	or(&c.OutboxBytes, 1<<20)
	or(&c.Unanswered, 1024)
	or(&c.ConnectTimeout, 10*time.Second)
	or(&c.Ping, 25*time.Second)
	or(&c.WriteTimeout, 10*time.Second)
	or(&c.CloseTimeout, 5*time.Second)
	or(&c.AnswerTimeout, 5*time.Second)
	or(&c.CallTimeout, 4500*time.Millisecond)
	or(&c.AckWait, time.Second)
	or(&c.KeepInterest, 30*time.Second)
	or(&c.OfflineAfter, 5*time.Second)
	or(&c.Retry, time.Second)
	or(&c.OrderHold, time.Second)
	return c
}

func or[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}
