package telemetry

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/infra/security"
)

// Admin serves /healthz (200 while the process lives), /readyz (200 if everything that the process needs works, else 503 and
// what is wrong), /metrics and /debug/pprof.
type Admin struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{}
}

const (
	// requestTimeout is how long a request may take to arrive, and answerTimeout how long the client may take to read the
	// response. A profile takes as many more seconds as were asked for. A connection stays open for the next request for
	// idleTimeout.
	requestTimeout = 5 * time.Second
	answerTimeout  = 30 * time.Second
	idleTimeout    = time.Minute
	// scrapeTimeout is less than the 10 s that Prometheus waits by default.
	scrapeTimeout = 8 * time.Second
)

// StartAdmin listens on the address until [Admin.Close]. The log gets what goes wrong with connections.
func StartAdmin(address string, checks *Checks, metrics prometheus.Gatherer, log *slog.Logger) (*Admin, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin server: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := checks.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Timeout: scrapeTimeout}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	// On another address, other machines use names for this one that are not known here.
	var handler http.Handler = mux
	if security.LocalHost(listener.Addr().String()) {
		handler = security.OnlyLocalHosts(mux, func(string) bool { return false })
	}
	a := &Admin{
		listener: listener,
		server: &http.Server{
			Handler: handler, ReadTimeout: requestTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
			ErrorLog: ServerErrors(log),
		},
		served: make(chan struct{}),
	}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(listener) // returns when closed
	}()
	return a, nil
}

// Addr returns the address that it listens on.
func (a *Admin) Addr() string { return a.listener.Addr().String() }

// Close stops at once, because a client can repeat its request.
func (a *Admin) Close() error {
	err := a.server.Close()
	<-a.served
	return err
}
