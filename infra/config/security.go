package config

import (
	"slices"

	"github.com/spf13/pflag"

	"millrace/infra/pubsub/kafka"
	"millrace/infra/redis"
	"millrace/infra/security"
)

// bindTLS adds the files for TLS to servers of a kind.
func bindTLS(flags *pflag.FlagSet, kind, servers string, files *security.TLSFiles) {
	flags.StringVar(&files.CA, kind+"-tls-ca", "", "PEM file of the authorities for the certificates of "+servers+"; empty: the system's")
	flags.StringVar(&files.Cert, kind+"-tls-cert", "", "PEM file of this client's certificate, where one is wanted")
	flags.StringVar(&files.Key, kind+"-tls-key", "", "PEM file of its key")
}

// bindKafkaSecurity adds how to reach brokers that want TLS or SASL.
func (c *Config) bindKafkaSecurity(flags *pflag.FlagSet) {
	flags.BoolVar(&c.KafkaTLS, "kafka-tls", false, "connect to the Kafka brokers by TLS")
	bindTLS(flags, "kafka", "the Kafka brokers", &c.KafkaTLSFiles)
	flags.StringVar(&c.KafkaSASL, "kafka-sasl", "", "how to authenticate to the Kafka brokers: plain, scram-sha-256 or scram-sha-512; empty: not")
	flags.StringVar(&c.KafkaSASLUser, "kafka-sasl-user", "", "user to authenticate as")
	flags.StringVar(&c.KafkaSASLPassword, "kafka-sasl-password", "", "password of the user")
}

func (c *Config) checkKafkaSecurity(fault func(flag, format string, args ...any)) {
	if !c.KafkaTLS && c.KafkaTLSFiles.Named() {
		fault("kafka-tls", "must be true where files for TLS are named")
	}
	if c.KafkaTLS && checkPair(fault, "kafka", c.KafkaTLSFiles) {
		if _, err := c.KafkaTLSFiles.Load(); err != nil {
			fault("kafka-tls", "%v", err)
		}
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

// checkPair reports whether the files have both a certificate and its key, or neither.
func checkPair(fault func(flag, format string, args ...any), kind string, files security.TLSFiles) bool {
	paired := (files.Cert == "") == (files.Key == "")
	if !paired {
		fault(kind+"-tls-cert", "name both this and %s, or neither", EnvName(kind+"-tls-key"))
	}
	return paired
}

// Redis is how to reach it.
func (c *Config) Redis() redis.Config {
	return redis.Config{Address: c.RedisAddr, Password: c.RedisPassword, TLS: c.RedisTLS}
}

func (c *Config) checkRedis(fault func(flag, format string, args ...any)) {
	if c.RedisAddr == "" && !c.RedisTLS.Named() || !checkPair(fault, "redis", c.RedisTLS) {
		return
	}
	if err := c.Redis().Check(); err != nil {
		fault("redis-addr", "%v", err)
	}
}
