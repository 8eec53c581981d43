package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	franzscram "github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/xdg-go/scram"

	"millrace/infra/security"
)

// The SASL mechanisms as they are configured.
const (
	Plain       = "plain"
	ScramSHA256 = "scram-sha-256"
	ScramSHA512 = "scram-sha-512"
)

// SASL says how to authenticate to the brokers. An empty Mechanism means that this process does not.
type SASL struct {
	Mechanism      string // [Plain], [ScramSHA256] or [ScramSHA512]
	User, Password string
}

// securityOptions returns TLS and SASL as options of franz-go.
func securityOptions(c Config) ([]kgo.Opt, error) {
	var opts []kgo.Opt
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS.Clone()))
	}
	login := franzscram.Auth{User: c.SASL.User, Pass: c.SASL.Password}
	switch c.SASL.Mechanism {
	case "":
	case Plain:
		opts = append(opts, kgo.SASL(plain.Auth{User: login.User, Pass: login.Pass}.AsMechanism()))
	case ScramSHA256:
		opts = append(opts, kgo.SASL(login.AsSha256Mechanism()))
	case ScramSHA512:
		opts = append(opts, kgo.SASL(login.AsSha512Mechanism()))
	default:
		return nil, fmt.Errorf("unknown SASL mechanism %q", c.SASL.Mechanism)
	}
	return opts, nil
}

// secure sets TLS and SASL in Sarama's configuration.
func secure(s *sarama.Config, c Config) {
	if c.TLS != nil {
		s.Net.TLS.Enable, s.Net.TLS.Config = true, c.TLS.Clone()
	}
	if c.SASL.Mechanism == "" {
		return
	}
	s.Net.SASL.Enable, s.Net.SASL.Handshake = true, true
	s.Net.SASL.User, s.Net.SASL.Password = c.SASL.User, c.SASL.Password
	exchange := func(hash scram.HashGeneratorFcn) func() sarama.SCRAMClient {
		return func() sarama.SCRAMClient { return &scramExchange{hash: hash} }
	}
	switch c.SASL.Mechanism {
	case Plain:
		s.Net.SASL.Mechanism = sarama.SASLTypePlaintext
	case ScramSHA256:
		s.Net.SASL.Mechanism, s.Net.SASL.SCRAMClientGeneratorFunc = sarama.SASLTypeSCRAMSHA256, exchange(scram.SHA256)
	case ScramSHA512:
		s.Net.SASL.Mechanism, s.Net.SASL.SCRAMClientGeneratorFunc = sarama.SASLTypeSCRAMSHA512, exchange(scram.SHA512)
	}
}

// scramExchange is one authentication for Sarama, which has the messages of SCRAM but not its computations.
type scramExchange struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

var _ sarama.SCRAMClient = (*scramExchange)(nil)

// Begin starts the exchange.
func (x *scramExchange) Begin(user, password, authzID string) error {
	client, err := x.hash.NewClient(user, password, authzID)
	if err != nil {
		return fmt.Errorf("SCRAM: %w", err)
	}
	x.ClientConversation = client.NewConversation()
	return nil
}

const (
	accessTries = 5
	accessPause = 300 * time.Millisecond
)

// checkAccess returns an error that waiting will not mend: the brokers refuse the credentials or the certificate, or their
// certificate is not to be trusted. Some brokers say so; others only close the connection, so a connection that is closed
// again and again counts as a refusal. Brokers that cannot be reached are no error here.
func checkAccess(ctx context.Context, c Config, client *kgo.Client) error {
	if c.TLS == nil && c.SASL.Mechanism == "" {
		return nil
	}
	for try := 1; ; try++ {
		err := client.Ping(ctx)
		fault := security.TLSFault(err)
		switch {
		case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism):
			return fmt.Errorf("the brokers refuse the SASL credentials: %w", err)
		case fault != nil:
			return fmt.Errorf("brokers: %w", fault)
		case !closed(err):
			return nil
		case try == accessTries:
			return fmt.Errorf("the brokers close the connection; do TLS, the SASL mechanism, user and password suit them? %w", err)
		}
		select {
		case <-time.After(accessPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closed reports whether a broker was reached and ended the connection.
func closed(err error) bool {
	first := new(kgo.ErrFirstReadEOF)
	return errors.Is(err, io.EOF) || errors.As(err, &first) || errors.Is(err, syscall.ECONNRESET)
}
