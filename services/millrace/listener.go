package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// spareConnections is how many connections beyond the bound may be open while they are told that there are too many. Further
// ones are cut off.
const spareConnections = 16

// boundedListener bounds the connections that are open at the same time, so that clients leave the process the open files
// that it needs for brokers, stores and other nodes.
type boundedListener struct {
	net.Listener
	bound   int64
	open    atomic.Int64
	refused prometheus.Counter
	log     *slog.Logger
	tell    rate.Sometimes
}

func newBoundedListener(l net.Listener, bound int, metrics prometheus.Registerer, log *slog.Logger) *boundedListener {
	b := &boundedListener{
		Listener: l, bound: int64(bound), log: log, tell: rate.Sometimes{Interval: time.Minute},
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_connections_refused_total", Help: "Connections refused because as many as the gateway takes were open.",
		}),
	}
	metrics.MustRegister(b.refused)
	return b
}

// Accept returns the next connection that is within the bound or among the spare ones.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.bound+spareConnections {
			return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refuse()
		_ = conn.Close()
	}
}

func (l *boundedListener) refuse() {
	l.refused.Inc()
	l.tell.Do(func() { l.log.Warn("connections are refused: as many as the gateway takes are open", "bound", l.bound) })
}

// handler responds with 503 on a connection beyond the bound.
func (l *boundedListener) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.open.Load() > l.bound {
			l.refuse()
			http.Error(w, "too many connections: try again later", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// countedConn is counted until it is closed.
type countedConn struct {
	net.Conn
	closed func()
}

// SyscallConn returns the socket.
func (c *countedConn) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// How many open files are kept for everything but clients: an eighth of the limit, at least leastReserve, at most mostReserve
// and never more than half. A dev process without a client has some 50 open, an idle gateway some 20.
const (
	leastReserve = 128
	mostReserve  = 1024
)

// connectionBound returns how many connections a gateway accepts: as many as configured or, if that is 0, as many as the
// limit of open files leaves room for.
func connectionBound(configured int) (int, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	limit := int(min(files.Cur, 1<<30)) // it may be infinite
	room := limit - min(limit/2, max(leastReserve, min(limit/8, mostReserve)))
	if configured > room {
		return 0, fmt.Errorf("--max-connections=%d: the limit of open files (ulimit -n), %d, leaves room for %d", configured, limit, room)
	}
	if configured > 0 {
		return configured, nil
	}
	return room, nil
}
