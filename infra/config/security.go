package config

import (
	"errors"
	"slices"

	"github.com/spf13/pflag"

	"millrace/infra/pubsub/kafka"
	"millrace/infra/redis"
	"millrace/infra/security"
)

// tlsUse says in words what the files are used for.
type tlsUse struct{ ca, cert string }

// serverTLS returns the words for files that are used with TLS to servers.
func serverTLS(servers string) tlsUse {
	return tlsUse{
		ca:   "PEM file of the authorities for the certificates of " + servers + "; empty: the system's",
		cert: "PEM file of this client's certificate, where one is wanted",
	}
}

// bindTLS adds the flags for a set of TLS files.
func bindTLS(flags *pflag.FlagSet, kind string, use tlsUse, files *security.TLSFiles) {
	flags.StringVar(&files.CA, kind+"-tls-ca", "", use.ca)
	flags.StringVar(&files.Cert, kind+"-tls-cert", "", use.cert)
	flags.StringVar(&files.Key, kind+"-tls-key", "", "PEM file of its key")
}

// bindKafkaSecurity adds the flags for brokers that require TLS or SASL.
func (c *Config) bindKafkaSecurity(flags *pflag.FlagSet) {
	flags.BoolVar(&c.KafkaTLS, "kafka-tls", false, "connect to the Kafka brokers by TLS")
	bindTLS(flags, "kafka", serverTLS("the Kafka brokers"), &c.KafkaTLSFiles)
	flags.StringVar(&c.KafkaSASL, "kafka-sasl", "", "how to authenticate to the Kafka brokers: plain, scram-sha-256 or scram-sha-512; empty: not")
	flags.StringVar(&c.KafkaSASLUser, "kafka-sasl-user", "", "user to authenticate as")
	flags.StringVar(&c.KafkaSASLPassword, "kafka-sasl-password", "", "password of the user")
}

func (c *Config) checkKafkaSecurity(fault func(flag, format string, args ...any)) {
	if !c.KafkaTLS && c.KafkaTLSFiles.Named() {
		fault("kafka-tls", "must be true where files for TLS are named")
	}
	if c.KafkaTLS {
		checkFiles(fault, "kafka", c.KafkaTLSFiles)
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

// checkPair reports whether the files name both a certificate and its key, or neither.
func checkPair(fault func(flag, format string, args ...any), kind string, files security.TLSFiles) bool {
	paired := (files.Cert == "") == (files.Key == "")
	if !paired {
		fault(kind+"-tls-cert", "name both this and %s, or neither", EnvName(kind+"-tls-key"))
	}
	return paired
}

// checkFiles reads the files.
func checkFiles(fault func(flag, format string, args ...any), kind string, files security.TLSFiles) {
	if !checkPair(fault, kind, files) {
		return
	}
	if _, err := files.Load(); err != nil {
		fault(tlsSetting(kind, err, kind+"-tls-ca"), "%v", err)
	}
}

// tlsSetting returns the setting that names the file which the error is about, or other if the error is about none.
func tlsSetting(kind string, err error, other string) string {
	var file *security.FileError
	if errors.As(err, &file) {
		return kind + "-tls-" + file.Part
	}
	return other
}

// Redis returns how to reach Redis.
func (c *Config) Redis() redis.Config {
	return redis.Config{Address: c.RedisAddr, Password: c.RedisPassword, TLS: c.RedisTLS}
}

func (c *Config) checkRedis(fault func(flag, format string, args ...any)) {
	if c.RedisAddr == "" && !c.RedisTLS.Named() || !checkPair(fault, "redis", c.RedisTLS) {
		return
	}
	if err := c.Redis().Check(); err != nil {
		fault(tlsSetting("redis", err, "redis-addr"), "%v", err)
	}
}
