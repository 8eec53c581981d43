package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/events"
	"millrace/infra/pubsub"
)

// certificate writes a new certificate for 127.0.0.1, which is its own authority, and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return certFile, keyFile
}

// secured starts a broker that wants TLS, by a client that its own certificate vouches for, and SASL.
func secured(t *testing.T) (addr, certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = certificate(t)
	server, err := TLSFiles{CA: certFile, Cert: certFile, Key: keyFile}.Load()
	require.NoError(t, err)
	server.ClientCAs, server.ClientAuth = server.RootCAs, tls.VerifyClientCertIfGiven
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.TLS(server), kfake.EnableSASL()}
	for _, method := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		opts = append(opts, kfake.Superuser(method, "millrace", "right-password"))
	}
	cluster, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0], certFile, keyFile
}

func TestTLSAndSASLForBothClients(t *testing.T) {
	addr, certFile, keyFile := secured(t)
	for name, test := range map[string]struct {
		mechanism string
		files     TLSFiles
	}{
		Plain:                         {Plain, TLSFiles{CA: certFile}},
		ScramSHA256:                   {ScramSHA256, TLSFiles{CA: certFile}},
		ScramSHA512:                   {ScramSHA512, TLSFiles{CA: certFile}},
		"with a client's certificate": {ScramSHA256, TLSFiles{CA: certFile, Cert: certFile, Key: keyFile}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			security, err := test.files.Load()
			require.NoError(t, err)
			c := Config{
				Brokers: []string{addr}, Partitions: 1, TLS: security,
				SASL: SASL{Mechanism: test.mechanism, User: "millrace", Password: "right-password"},
			}
			_, err = EnsureTopics(ctx, c, logTo(t))
			require.NoError(t, err)
			bus, err := NewBus(ctx, c, logTo(t))
			require.NoError(t, err)
			sent := message.NewMessage("", []byte("hello"))
			require.NoError(t, bus.Publisher().Publish(events.TopicMessages, sent)) // franz-go
			want, err := bus.Position(sent)
			require.NoError(t, err)

			subscriber, err := bus.Subscriber("group-"+test.mechanism+name, pubsub.Claims{}) // Sarama
			require.NoError(t, err)
			in, err := subscriber.Subscribe(ctx, events.TopicMessages)
			require.NoError(t, err)
			for found := false; !found; {
				select {
				case msg := <-in:
					require.NotNil(t, msg)
					at, err := bus.Position(msg)
					require.NoError(t, err)
					found = at == want
					msg.Ack()
				case <-ctx.Done():
					require.FailNow(t, "nothing was consumed")
				}
			}
			require.NoError(t, subscriber.Close())
			require.NoError(t, bus.Close())
		})
	}
}

func TestRefusedAccessIsAnErrorAtOnce(t *testing.T) {
	addr, certFile, _ := secured(t)
	stranger, _ := certificate(t)
	right := SASL{Mechanism: ScramSHA256, User: "millrace", Password: "right-password"}
	for name, test := range map[string]struct {
		addr string
		ca   string
		sasl SASL
		want string
	}{
		"wrong password":              {addr, certFile, SASL{ScramSHA256, "millrace", "wrong-password"}, "user and password suit them"},
		"wrong password, SHA-512":     {addr, certFile, SASL{ScramSHA512, "millrace", "wrong-password"}, "user and password suit them"},
		"wrong plain password":        {addr, certFile, SASL{Plain, "millrace", "wrong-password"}, "user and password suit them"},
		"unknown user":                {addr, certFile, SASL{ScramSHA256, "nobody", "right-password"}, "user and password suit them"},
		"certificate of a stranger":   {addr, stranger, right, "certificate is not trusted"},
		"a mechanism nobody knows of": {addr, certFile, SASL{Mechanism: "oauth"}, "unknown SASL mechanism"},
	} {
		t.Run(name, func(t *testing.T) {
			// Brokers that are merely away are waited for until the context ends, which the error then says.
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			security, err := TLSFiles{CA: test.ca}.Load()
			require.NoError(t, err)
			_, err = EnsureTopics(ctx, Config{Brokers: []string{test.addr}, TLS: security, SASL: test.sasl}, logTo(t))
			require.ErrorContains(t, err, test.want)
			require.NoError(t, ctx.Err())
			require.NotContains(t, err.Error(), "-password")
		})
	}
}

func TestTLSFilesThatCannotBeUsedAreErrors(t *testing.T) {
	certFile, keyFile := certificate(t)
	other, _ := certificate(t)
	for name, files := range map[string]TLSFiles{
		"no such authority":       {CA: filepath.Join(t.TempDir(), "none")},
		"a key for an authority":  {CA: keyFile},
		"another certificate's":   {Cert: other, Key: keyFile},
		"a certificate for a key": {Cert: certFile, Key: certFile},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := files.Load()
			require.Error(t, err)
		})
	}
}
