// Package security is what connections to brokers, stores and caches need to be secure.
package security

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// TLSFiles name PEM files.
type TLSFiles struct {
	CA        string // whom to trust in place of the system's authorities; empty: those
	Cert, Key string // of this client; both or none
}

// Named reports whether there is any.
func (f TLSFiles) Named() bool { return f != TLSFiles{} }

// Load reads the files, or the system's authorities, which would else take the time of the first connection.
func (f TLSFiles) Load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if f.CA == "" {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("certificate authorities of the system: %w", err)
		}
	} else {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authorities: %s holds no certificate", f.CA)
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// TLSFault is what the error tells of TLS that no waiting will change, in words; nil if nothing.
func TLSFault(err error) error {
	untrusted, end := new(tls.CertificateVerificationError), new(net.OpError)
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("the server's certificate is not trusted: %w", untrusted)
	case errors.As(err, &end) && end.Op == "remote error": // crypto/tls has no other mark for an alert
		return fmt.Errorf("the server refuses this client's certificate, or its lack of one, or its TLS: %w", end)
	}
	return nil
}
