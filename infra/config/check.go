package config

import (
	"slices"

	"github.com/spf13/pflag"

	"millrace/infra/store/mongo"
)

func (c *Config) check(fault func(flag, format string, args ...any), flags *pflag.FlagSet) {
	checkValues(fault, flags)
	c.checkAddresses(fault, flags)
	if flags.Lookup("data-dir") != nil && c.DataDir == "" {
		fault("data-dir", "must be set")
	}
	if flags.Lookup("log-format") != nil && c.LogFormat != "text" && c.LogFormat != "json" {
		fault("log-format", "%q is neither text nor json", c.LogFormat)
	}
	if (c.Role == Dev || c.Role == Worker) && len(c.Handlers) == 0 {
		fault("handlers", "must name a handler")
	}
	if name, twice := repeated(c.Handlers); twice {
		fault("handlers", "names %s twice", name)
	}
	if slices.Contains(c.Handlers, "webhook") && c.Webhooks == "" {
		fault("webhooks", "must be set to run the webhook handler")
	}
	if c.InstanceID != "" && (len(c.InstanceID) > 249 || !instanceID.MatchString(c.InstanceID)) {
		fault("instance-id", "%q is not of letters, digits, dots, underscores and hyphens, at most 249, and not of dots alone", c.InstanceID)
	}
	if flags.Lookup("kafka-brokers") != nil && c.Role != Dev && len(c.KafkaBrokers) == 0 {
		fault("kafka-brokers", "must be set: this role has no embedded broker (`millrace broker` runs one, on 127.0.0.1:9092 by default)")
	}
	if c.MessageAddr != "" && c.ServiceToken == "" && !loopback(c.MessageAddr) {
		fault("service-token", "must be set to serve gRPC on %s, which others than this machine can reach", c.MessageAddr)
	}
	if c.JWTSecret != "" && len(c.JWTSecret) < MinSecretBytes {
		fault("jwt-secret", "has %d bytes; HS256 wants at least %d", len(c.JWTSecret), MinSecretBytes)
	}
	if flags.Lookup("jwks-url") != nil {
		c.checkTokens(fault)
	}
	if c.MongoDBURI != "" {
		if err := mongo.CheckURI(c.MongoDBURI); err != nil {
			fault("mongodb-uri", "%v", err)
		}
	}
	c.checkKafkaSecurity(fault)
	c.checkRedis(fault)
	c.checkServiceTLS(fault)
	if flags.Lookup("hook-url") != nil {
		c.checkHook(fault)
	}
	c.checkNotify(fault, flags)
	checkServerTLS(fault, "connect", c.ConnectTLS)
	if flags.Lookup("api-addr") != nil {
		c.checkAPI(fault)
	}
	if flags.Lookup("send-rate") != nil && (c.SendRate < 1 || c.SendRate > maxRate) {
		fault("send-rate", "%d is not between 1 and %d", c.SendRate, maxRate)
	}
	if flags.Lookup("user-connections") != nil && c.UserConnections < 1 {
		fault("user-connections", "%d is not at least 1", c.UserConnections)
	}
	if c.MaxConnections < 0 {
		fault("max-connections", "%d is negative", c.MaxConnections)
	}
	if flags.Lookup("version") != nil && (c.Version < 1 || c.Version > maxVersion) {
		fault("version", "%d is not between 1 and %d", c.Version, maxVersion)
	}
	if c.AuditMaxSize < 0 || c.AuditMaxSize > maxAuditSize {
		fault("audit-max-size", "%d is not between 0 and %d", c.AuditMaxSize, maxAuditSize)
	}
	if flags.Lookup("topic-partitions") != nil {
		c.checkTopics(fault)
	}
}

// repeated returns a name that is in the list more than once.
func repeated(names []string) (name string, twice bool) {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return name, true
		}
	}
	return "", false
}

func (c *Config) checkTopics(fault func(flag, format string, args ...any)) {
	if c.TopicPartitions < 0 || c.TopicPartitions > maxPartitions {
		fault("topic-partitions", "%d is not between 0 and %d", c.TopicPartitions, maxPartitions)
	}
	if c.TopicReplication < 0 {
		fault("topic-replication", "%d is negative", c.TopicReplication)
	}
	if c.TopicMinISR < 0 || c.TopicReplication > 0 && c.TopicMinISR > int(c.TopicReplication) {
		fault("topic-min-isr", "%d is not between 1 and the number of replicas, %d", c.TopicMinISR, c.TopicReplication)
	}
}

func (c *Config) checkTokens(fault func(flag, format string, args ...any)) {
	switch {
	case c.JWTSecret != "" && c.JWKSURL != "":
		fault("jwks-url", "set either this or %s", EnvName("jwt-secret"))
	case c.JWTSecret == "" && c.JWKSURL == "" && c.Role != Dev:
		fault("jwt-secret", "set this or %s: the gateway must be able to check users' tokens", EnvName("jwks-url"))
	case c.JWKSURL != "":
		if !isHTTP(c.JWKSURL) {
			fault("jwks-url", "is no http or https URL") // not quoted, because it may hold a password
		}
	}
}
