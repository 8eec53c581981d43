package connect

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/infra/panics"
)

// Config holds the gateway's tunables. A zero value stands for the default named beside it.
type Config struct {
	// Name of the gateway, shown in the logs of push nodes.
	Name string
	// Metrics is where the gateway's metrics are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Panics contains those of sessions and of what goes on beside them; may be nil.
	Panics *panics.Panics
	// AllowedOrigins are browser origins ("https://chat.example.org") accepted beside the gateway's own host. "*" is any.
	AllowedOrigins []string

	// SendRate is how many sends a user may make per second, and the burst (2,000). Ten times as many frames of any kind, on
	// all connections of the user together, close the connection on which one too many comes.
	SendRate int
	// UserConnections is how many connections a user may have to this gateway (100). Those of one device count once.
	UserConnections int
	// MaxFrame is the largest frame accepted from a client, in bytes (64 KiB).
	MaxFrame int64
	// OutboxFrames and OutboxBytes bound the pushes that wait for one client (4,096 and 1 MiB). Beyond either it is too slow.
	// Answers to its own requests are counted apart: while more than half of either bound waits, its next requests do too.
	OutboxFrames int
	OutboxBytes  int
	// Unanswered bounds the changes of one connection that wait for their answer (1,024), of groups a quarter of it each. Beyond it the gateway stops
	// reading from the client until one is answered.
	Unanswered int

	// ConnectTimeout is how long a client may take to connect (10 s).
	ConnectTimeout time.Duration
	// Ping is the interval of pings (25 s). A client that has shown no sign of life for two of them is closed.
	Ping time.Duration
	// WriteTimeout is how long one write to a socket may take (10 s), and how long a connection that is being closed has for
	// what is under way and the close frame.
	WriteTimeout time.Duration
	// CloseTimeout is how long a client may take to answer a close frame (5 s).
	CloseTimeout time.Duration
	// AnswerTimeout is within which a client has its answer, whatever happens (5 s).
	AnswerTimeout time.Duration
	// CallTimeout is the deadline of calls to message nodes, shorter than AnswerTimeout (4.5 s).
	CallTimeout time.Duration
	// AckWait is how long a connecting session waits for push nodes to take up its channels (1 s).
	AckWait time.Duration
	// KeepInterest is how long a channel stays registered after its last session left (30 s).
	KeepInterest time.Duration
	// OfflineAfter is for how long a user has had no connection when others are told (5 s): one that comes back sooner was
	// never away.
	OfflineAfter time.Duration
	// Retry is the shortest pause before asking again for what the store could not give; the longest is double (1 s).
	Retry time.Duration
	// OrderHold is for how long a conversation refuses later sends after the client has seen that one was refused as
	// unavailable (1 s).
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
