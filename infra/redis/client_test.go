package redis

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/security"
	"millrace/infra/security/securitytest"
)

func TestAddressIsAURLToo(t *testing.T) {
	c := openWith(t, Config{Address: "redis://:secret@" + startServer(t).address + "/1"}, silent())
	require.NoError(t, c.redis.Ping(t.Context()).Err())
}

func TestFaultsAreToldWithoutSecrets(t *testing.T) {
	_, key := securitytest.Certificate(t)
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"no port":                     {Config{Address: "localhost"}, "neither"},
		"another database":            {Config{Address: "redis://:secret@localhost:1/one"}, "neither"},
		"another kind":                {Config{Address: "mongodb://:secret@localhost:1"}, "neither"},
		"unescaped":                   {Config{Address: "redis://:sec%ret@localhost:1"}, "percent-encoded"},
		"a login without scheme":      {Config{Address: "user:secret@localhost:1"}, "neither"},
		"a password without scheme":   {Config{Address: "secret@localhost:1"}, "neither"},
		"files without TLS":           {Config{Address: "localhost:1", TLS: security.TLSFiles{CA: key}}, "rediss://"},
		"files without TLS, in a URL": {Config{Address: "redis://:secret@localhost", TLS: security.TLSFiles{CA: key}}, "rediss://"},
		"no such file": {
			Config{Address: "rediss://:secret@localhost", TLS: security.TLSFiles{CA: filepath.Join(t.TempDir(), "none")}}, "none: no such file",
		},
		"no certificate": {Config{Address: "rediss://:secret@localhost", TLS: security.TLSFiles{CA: key}}, "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Check()
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "sec")
			_, err = Open(test.config, silent())
			require.Error(t, err)
		})
	}
}

// By default a Redis that uses TLS requires a certificate from its clients.
func TestTLS(t *testing.T) {
	cert, key := securitytest.Certificate(t)
	stranger, strangerKey := securitytest.Certificate(t)
	s := startServer(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	for name, test := range map[string]struct {
		files security.TLSFiles
		fault string
	}{
		"trusted":                 {security.TLSFiles{CA: cert, Cert: cert, Key: key}, ""},
		"a stranger for a server": {security.TLSFiles{CA: stranger, Cert: cert, Key: key}, "certificate signed by unknown authority"},
		"unknown to the system":   {security.TLSFiles{Cert: cert, Key: key}, "certificate signed by unknown authority"},
		"a stranger for a client": {security.TLSFiles{CA: cert, Cert: stranger, Key: strangerKey}, "tls: unknown certificate authority"},
		"a client without any":    {security.TLSFiles{CA: cert}, "tls: certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			c := openWith(t, Config{Address: "rediss://:secret@" + s.address, TLS: test.files}, silent())
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for ctx.Err() == nil { // until the error is no mere timeout, and no reset that came before the alert with the reason was read
				err := c.redis.Ping(ctx).Err()
				late := net.Error(nil)
				if errors.As(err, &late) && late.Timeout() || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
					continue
				}
				if test.fault == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, test.fault)
				require.NotContains(t, err.Error(), "secret")
				return
			}
			require.Fail(t, "no answer")
		})
	}
}
