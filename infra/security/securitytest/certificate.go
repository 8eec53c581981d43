// Package securitytest makes certificates for tests.
package securitytest

import (
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Certificate writes a new self-signed certificate for 127.0.0.1, which is its own authority, and its key. Servers and
// clients can use it.
func Certificate(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	template := template()
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	cert, key := sign(t, template, nil)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, "CERTIFICATE", cert.Raw)
	write(t, keyFile, "PRIVATE KEY", secret)
	return certFile, keyFile
}
