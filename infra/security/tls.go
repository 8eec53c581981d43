// Package security has what connections need to be secure: those to brokers, stores and caches, between nodes, and from
// clients.
package security

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// TLSFiles names PEM files.
type TLSFiles struct {
	CA        string // the authorities to trust; empty: those of the system
	Cert, Key string // this process's own; both or none
}

// Named reports whether any file is named.
func (f TLSFiles) Named() bool { return f != TLSFiles{} }

// FileError says why a file cannot be used.
type FileError struct {
	Part string // which of the files: "ca", "cert" or "key"
	File string
	Err  error
}

func (e *FileError) Error() string { return e.File + ": " + e.Err.Error() }

func (e *FileError) Unwrap() error { return e.Err }

// Load reads the files, or the system's authorities, so that the first connection need not. If a file cannot be used, for
// example because a certificate is not valid now, the error is a *[FileError].
func (f TLSFiles) Load() (*tls.Config, error) {
	held, err := f.read()
	if err != nil {
		return nil, err
	}
	return f.parse(held)
}

// contents are the bytes of the files.
type contents struct{ ca, cert, key []byte }

func (c contents) equal(other contents) bool {
	return bytes.Equal(c.ca, other.ca) && bytes.Equal(c.cert, other.cert) && bytes.Equal(c.key, other.key)
}

func (f TLSFiles) read() (held contents, err error) {
	for _, file := range []struct {
		part, path string
		held       *[]byte
	}{{"ca", f.CA, &held.ca}, {"cert", f.Cert, &held.cert}, {"key", f.Key, &held.key}} {
		if file.path == "" {
			continue
		}
		if *file.held, err = os.ReadFile(file.path); err != nil {
			if path := new(os.PathError); errors.As(err, &path) {
				err = path.Err // FileError already says the rest
			}
			return held, &FileError{file.part, file.path, err}
		}
	}
	return held, nil
}

func (f TLSFiles) parse(held contents) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if f.CA == "" {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("certificate authorities of the system: %w", err)
		}
	} else {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(held.ca) {
			return nil, &FileError{"ca", f.CA, errors.New("holds no certificate")}
		}
	}
	if f.Cert != "" {
		pair, err := f.pair(held)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (f TLSFiles) pair(held contents) (tls.Certificate, error) {
	if !x509.NewCertPool().AppendCertsFromPEM(held.cert) {
		return tls.Certificate{}, &FileError{"cert", f.Cert, errors.New("holds no certificate")}
	}
	pair, err := tls.X509KeyPair(held.cert, held.key)
	if err != nil { // the certificate itself was found to be good before
		return pair, &FileError{"key", f.Key, fmt.Errorf("is not the key of the certificate in %s: %w", f.Cert, err)}
	}
	switch now := time.Now(); {
	case now.After(pair.Leaf.NotAfter):
		err = fmt.Errorf("the certificate expired at %s", pair.Leaf.NotAfter.Format(time.RFC3339))
	case now.Before(pair.Leaf.NotBefore):
		err = fmt.Errorf("the certificate does not hold before %s", pair.Leaf.NotBefore.Format(time.RFC3339))
	default:
		return pair, nil
	}
	return pair, &FileError{"cert", f.Cert, err}
}

// TLSFault returns the fault of TLS that the error contains, in words, if waiting will not mend it; else nil.
func TLSFault(err error) error {
	untrusted, end := new(tls.CertificateVerificationError), new(net.OpError)
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("the server's certificate is not trusted: %w", untrusted)
	case errors.As(err, &end) && end.Op == "remote error": // crypto/tls marks an alert in no other way
		return fmt.Errorf("the server refuses this client's certificate, or its lack of one, or its TLS: %w", end)
	}
	return nil
}
