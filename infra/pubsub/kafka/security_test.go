package kafka

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/security"
	"millrace/infra/security/securitytest"
)

// encrypted starts a broker that requires TLS. Its certificate is its own authority, and that of clients.
func encrypted(t *testing.T, clients tls.ClientAuthType, opts ...kfake.Opt) (addr, certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = securitytest.Certificate(t)
	server, err := security.TLSFiles{CA: certFile, Cert: certFile, Key: keyFile}.Load()
	require.NoError(t, err)
	server.ClientCAs, server.ClientAuth = server.RootCAs, clients
	cluster, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.TLS(server))...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0], certFile, keyFile
}

// secured starts a broker that requires TLS and SASL.
func secured(t *testing.T) (addr, certFile string) {
	t.Helper()
	opts := []kfake.Opt{kfake.EnableSASL()}
	for _, method := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		opts = append(opts, kfake.Superuser(method, "millrace", "right-password"))
	}
	addr, certFile, _ = encrypted(t, tls.NoClientCert, opts...)
	return addr, certFile
}

func TestTLSAndSASLForBothClients(t *testing.T) {
	t.Parallel()
	login, loginCert := secured(t)
	mutual, cert, key := encrypted(t, tls.RequireAndVerifyClientCert)
	for name, test := range map[string]struct {
		addr      string
		mechanism string
		files     security.TLSFiles
	}{
		Plain:                  {login, Plain, security.TLSFiles{CA: loginCert}},
		ScramSHA256:            {login, ScramSHA256, security.TLSFiles{CA: loginCert}},
		ScramSHA512:            {login, ScramSHA512, security.TLSFiles{CA: loginCert}},
		"client's certificate": {mutual, "", security.TLSFiles{CA: cert, Cert: cert, Key: key}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			config, err := test.files.Load()
			require.NoError(t, err)
			c := Config{
				Brokers: []string{test.addr}, Partitions: 1, TLS: config,
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

			subscriber, err := bus.Subscriber("group-"+name, pubsub.SubscriberConfig{}) // Sarama
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
	t.Parallel()
	login, loginCert := secured(t)
	mutual, cert, _ := encrypted(t, tls.RequireAndVerifyClientCert)
	stranger, strangerKey := securitytest.Certificate(t)
	right := SASL{Mechanism: ScramSHA256, User: "millrace", Password: "right-password"}
	for name, test := range map[string]struct {
		addr  string
		files security.TLSFiles
		sasl  SASL
		want  string
	}{
		"wrong password":              {login, security.TLSFiles{CA: loginCert}, SASL{ScramSHA256, "millrace", "wrong-password"}, "user and password suit them"},
		"wrong password, SHA-512":     {login, security.TLSFiles{CA: loginCert}, SASL{ScramSHA512, "millrace", "wrong-password"}, "user and password suit them"},
		"wrong plain password":        {login, security.TLSFiles{CA: loginCert}, SASL{Plain, "millrace", "wrong-password"}, "user and password suit them"},
		"unknown user":                {login, security.TLSFiles{CA: loginCert}, SASL{ScramSHA256, "nobody", "right-password"}, "user and password suit them"},
		"certificate of a stranger":   {login, security.TLSFiles{CA: stranger}, right, "certificate is not trusted"},
		"a mechanism nobody knows of": {login, security.TLSFiles{CA: loginCert}, SASL{Mechanism: "oauth"}, "unknown SASL mechanism"},
		"no client's certificate":     {mutual, security.TLSFiles{CA: cert}, SASL{}, "refuses this client's certificate, or its lack of one"},
		"a stranger for a client": {
			mutual, security.TLSFiles{CA: cert, Cert: stranger, Key: strangerKey}, SASL{}, "refuses this client's certificate, or its lack of one",
		},
	} {
		t.Run(name, func(t *testing.T) {
			// NewBus goes on trying brokers that are merely away until the context ends, and its error then says so.
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			config, err := test.files.Load()
			require.NoError(t, err)
			_, err = EnsureTopics(ctx, Config{Brokers: []string{test.addr}, TLS: config, SASL: test.sasl}, logTo(t))
			require.ErrorContains(t, err, test.want)
			require.NoError(t, ctx.Err())
			require.NotContains(t, err.Error(), "-password")
		})
	}
}
