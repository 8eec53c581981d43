package config

import (
	"slices"

	"github.com/spf13/pflag"

	"millrace/infra/pubsub/kafka"
)

// bindSecurity adds how to reach brokers that want TLS or SASL.
func (c *Config) bindSecurity(flags *pflag.FlagSet) {
	flags.BoolVar(&c.KafkaTLS, "kafka-tls", false, "connect to the Kafka brokers by TLS")
	flags.StringVar(&c.KafkaTLSCA, "kafka-tls-ca", "", "PEM file of the authorities that the brokers' certificates are from; empty: the system's")
	flags.StringVar(&c.KafkaTLSCert, "kafka-tls-cert", "", "PEM file of this client's certificate, for brokers that want one")
	flags.StringVar(&c.KafkaTLSKey, "kafka-tls-key", "", "PEM file of its key")
	flags.StringVar(&c.KafkaSASL, "kafka-sasl", "", "how to authenticate to the Kafka brokers: plain, scram-sha-256 or scram-sha-512; empty: not")
	flags.StringVar(&c.KafkaSASLUser, "kafka-sasl-user", "", "user to authenticate as")
	flags.StringVar(&c.KafkaSASLPassword, "kafka-sasl-password", "", "password of the user")
}

func (c *Config) checkSecurity(fault func(flag, format string, args ...any)) {
	if !c.KafkaTLS && c.KafkaTLSCA+c.KafkaTLSCert+c.KafkaTLSKey != "" {
		fault("kafka-tls", "must be true where files for TLS are named")
	}
	if (c.KafkaTLSCert == "") != (c.KafkaTLSKey == "") {
		fault("kafka-tls-cert", "name both this and %s, or neither", EnvName("kafka-tls-key"))
	}
	mechanisms := []string{kafka.Plain, kafka.ScramSHA256, kafka.ScramSHA512}
	switch {
	case c.KafkaSASL == "" && c.KafkaSASLUser+c.KafkaSASLPassword != "":
		fault("kafka-sasl", "must be one of %v where a user or password is set", mechanisms)
	case c.KafkaSASL == "":
	case !slices.Contains(mechanisms, c.KafkaSASL):
		fault("kafka-sasl", "%q is none of %v", c.KafkaSASL, mechanisms)
	case c.KafkaSASLUser == "" || c.KafkaSASLPassword == "":
		fault("kafka-sasl", "wants both %s and %s", EnvName("kafka-sasl-user"), EnvName("kafka-sasl-password"))
	}
	if c.Role == Dev && len(c.KafkaBrokers) == 0 && (c.KafkaTLS || c.KafkaSASL != "") {
		fault("kafka-brokers", "must be set: the embedded broker knows neither TLS nor SASL")
	}
}
