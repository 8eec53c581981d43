package security

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// watchEvery is how often the files are checked for changes.
const watchEvery = 10 * time.Second

// WatchedTLS holds what the TLS files contain now: every handshake uses the certificate, key and authorities that were read
// last. Files that cannot be used change nothing. It is safe for concurrent use.
//
// gRPC's pemfile provider also reads files again, but not on demand, and nobody learns that it failed.
type WatchedTLS struct {
	files TLSFiles
	name  string
	log   *slog.Logger

	current  atomic.Pointer[tls.Config]
	expiry   prometheus.Gauge
	unusable prometheus.Gauge

	reading sync.Mutex
	held    contents // what current was made from
}

// WatchTLS reads the files, which must be usable now. The name says in logs and metrics what they are for.
func WatchTLS(files TLSFiles, name string, metrics prometheus.Registerer, log *slog.Logger) (*WatchedTLS, error) {
	gauge := func(metric, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: metric, Help: help, ConstLabels: prometheus.Labels{"use": name}})
	}
	w := &WatchedTLS{
		files: files, name: name, log: log,
		expiry:   gauge("millrace_tls_certificate_expiry_seconds", "When the certificate that is in use expires, in seconds since 1970."),
		unusable: gauge("millrace_tls_files_unusable", "1 while the files as they are now cannot be used, so that what was read before stays in use."),
	}
	if err := w.Reload(); err != nil {
		return nil, err
	}
	if files.Cert != "" {
		metrics.MustRegister(w.expiry)
	}
	metrics.MustRegister(w.unusable)
	return w, nil
}

// Reload reads the files again. If they cannot be used, it returns the error of [TLSFiles.Load] and keeps what it had.
func (w *WatchedTLS) Reload() error {
	w.reading.Lock()
	defer w.reading.Unlock()
	held, err := w.files.read()
	if err == nil && w.current.Load() != nil && held.equal(w.held) {
		w.unusable.Set(0)
		return nil
	}
	var next *tls.Config
	if err == nil {
		next, err = w.files.parse(held)
	}
	if err != nil {
		w.unusable.Set(1)
		return err
	}
	w.unusable.Set(0)
	w.held = held
	if len(next.Certificates) > 0 {
		w.expiry.Set(float64(next.Certificates[0].Leaf.NotAfter.Unix()))
	}
	if w.current.Swap(next) != nil {
		w.log.Info("the files for TLS have changed; new connections go by them", "use", w.name)
	}
	return nil
}

// Run checks the files for changes until the context ends.
func (w *WatchedTLS) Run(ctx context.Context) error {
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	for said := ""; ; {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		err := w.Reload()
		if err == nil {
			said = ""
		} else if err.Error() != said {
			said = err.Error()
			w.log.Error("the files for TLS have changed and cannot be used; what was read before stays in use", "use", w.name, "error", err)
		}
	}
}

// Client returns the configuration for the next handshake as a client.
func (w *WatchedTLS) Client() *tls.Config { return w.current.Load() }

// Server returns the configuration of a server that supports the protocols (ALPN). Every handshake uses what the files
// contain then. If they name authorities, clients must have a certificate of one of these.
func (w *WatchedTLS) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := w.current.Load().Clone()
			c.NextProtos = protocols
			if w.files.CA != "" {
				c.ClientCAs, c.ClientAuth = c.RootCAs, tls.RequireAndVerifyClientCert
			}
			return c, nil
		},
	}
}
