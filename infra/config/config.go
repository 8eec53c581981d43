// Package config reads what can be set from outside: the environment variables MILLRACE_* and flags of the same names
// (MILLRACE_DATA_DIR is --data-dir); a flag wins over the variable. A role binds the settings it uses, parses its flags and
// calls [Config.Load], which reports everything that is wrong at once.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/security"
)

// Role says how the process runs. The roles share settings, but their defaults and requirements differ.
type Role string

// The roles that have settings.
const (
	Dev     Role = "dev"
	Broker  Role = "broker"
	Message Role = "message"
	Connect Role = "connect"
	Worker  Role = "worker"
)

// Config holds every setting. Which of them are set depends on the role.
type Config struct {
	Role Role

	KafkaBrokers      []string
	KafkaTLS          bool
	KafkaTLSFiles     security.TLSFiles
	KafkaSASL         string
	KafkaSASLUser     string
	KafkaSASLPassword string // never shown
	EmbeddedKafkaAddr string
	DataDir           string
	MongoDBURI        string // may hold a password: never shown
	RedisAddr         string // may hold a password: never shown
	RedisPassword     string
	RedisTLS          security.TLSFiles
	InstanceID        string

	TopicPartitions  int32
	TopicReplication int16
	TopicMinISR      int

	ConnectAddr    string
	ConnectTLS     security.TLSFiles // none: WebSockets come without TLS
	AllowedOrigins []string
	ChatPage       bool // is served at /chat/
	SendRate       int
	// UserConnections bounds the connections of one user to a gateway, MaxConnections all of them; 0 means as many as open
	// files allow.
	UserConnections int
	MaxConnections  int
	JWTSecret       string
	JWKSURL         string

	MessageAddr  string
	MessageAddrs []string
	PushAddrs    []string
	ServiceToken string
	// ServiceTLS makes nodes connect to each other with TLS. ServiceTLSFiles are this process's own files and the authorities
	// of the others.
	ServiceTLS      bool
	ServiceTLSFiles security.TLSFiles

	Handlers []string
	// Version is that of the handlers, and From where it begins if it is new; empty: at the oldest record.
	Version        int
	From           string
	AuditFile      string
	OperationsFile string
	AuditMaxSize   int    // in MiB, of either file
	Webhooks       string // the file that lists the endpoints of the webhook handler

	VAPIDKey           string // never shown
	VAPIDSubject       string
	NotifyWebhooks     string // the file that lists the endpoints that get notifications
	NotifyAllowPrivate bool
	NotifyWindow       time.Duration
	NotifyMaxAge       time.Duration
	NotifyContent      bool
	NotifyGroupLimit   int
	NotifyQuiet        string

	Rules string

	// APIKeys is set by [Config.Load] from APIKeySettings.
	APIAddr        string
	APIKeySettings []string
	APIKeys        auth.APIKeys
	APIRate        int
	APISystemUser  int64
	APIOrigins     []string
	APITLS         security.TLSFiles

	HookURL     string // may hold a password: never shown
	HookSecret  string // never shown
	HookTimeout time.Duration
	HookFail    string

	AdminAddr string
	LogLevel  slog.Level
	LogFormat string
}

const (
	envPrefix = "MILLRACE_"
	// MinSecretBytes is RFC 7518's least key size for HS256 (section 3.2).
	MinSecretBytes = 32
	// maxPartitions is far above what a cluster of brokers likes to hold of one topic. Clients' cursors and all processes'
	// tables have an entry for each partition.
	maxPartitions = 10_000
	// maxRate is more than a gateway can take: whoever writes more has mistyped it.
	maxRate    = 1_000_000
	maxVersion = 9999
	// maxAuditSize is a TiB.
	maxAuditSize = 1 << 20
)

// instanceID is what Kafka's clients take for the instance id of a group's member, "..." and the like aside.
var instanceID = regexp.MustCompile(`^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// Bind adds the role's flags.
func (c *Config) Bind(role Role, flags *pflag.FlagSet) {
	c.Role = role
	is := func(roles ...Role) bool { return slices.Contains(roles, role) }

	flags.StringVar(&c.AdminAddr, "admin-addr", adminAddr(role), "where /healthz, /readyz, /metrics and /debug/pprof are served; empty: nowhere")
	if is(Dev, Message, Worker) {
		flags.StringSliceVar(&c.KafkaBrokers, "kafka-brokers", nil, "Kafka brokers, host:port with commas between"+map[bool]string{true: "; empty: an embedded one"}[role == Dev])
	}
	if is(Dev, Message, Worker) {
		c.bindKafkaSecurity(flags)
	}
	if is(Dev, Broker) {
		flags.StringVar(&c.EmbeddedKafkaAddr, "embedded-kafka-addr", "127.0.0.1:9092", "where the embedded broker listens")
	}
	if is(Dev, Broker, Message, Worker) {
		flags.StringVar(&c.DataDir, "data-dir", "./data", "directory of the embedded broker and store")
	}
	if is(Dev, Message, Worker) {
		c.bindMongoDB(flags)
	}
	if is(Dev, Message, Worker) {
		flags.StringVar(&c.RedisAddr, "redis-addr", "", "Redis that processes share what they know of repeats in, host:port or a redis:// or rediss:// (TLS) URL; empty: each has its own memory")
		flags.StringVar(&c.RedisPassword, "redis-password", "", "password of Redis")
		bindTLS(flags, "redis", serverTLS("Redis, by a rediss:// URL"), &c.RedisTLS)
		flags.StringVar(&c.InstanceID, "instance-id", map[bool]string{true: "dev"}[role == Dev], "static consumer group membership: a name of this process that no other has and that stays after a restart")
		flags.Int32Var(&c.TopicPartitions, "topic-partitions", 0, fmt.Sprintf("partitions of the topics, fixed for their life; 0: as many as they have, new ones %d, on an embedded broker %d", events.DefaultPartitions, events.EmbeddedPartitions))
		flags.Int16Var(&c.TopicReplication, "topic-replication", 0, "replicas of topics that are created; 0: the brokers' default")
		flags.IntVar(&c.TopicMinISR, "topic-min-isr", 0, "replicas that must have a record before it is accepted, of topics that are created; 0: the brokers' default")
		flags.StringSliceVar(&c.Handlers, "handlers", defaultHandlers(role), "handlers to run, with commas between")
		c.bindAuditFile(flags)
		flags.StringVar(&c.OperationsFile, "operations-file", "", "where the operations handler appends; empty: operations.log in the data directory")
		flags.IntVar(&c.AuditMaxSize, "audit-max-size", 256, "MiB at which the audit and operations handlers begin a new file; 0: never")
		c.bindWebhooks(flags)
		c.bindNotify(flags)
	}
	if is(Worker) {
		flags.IntVar(&c.Version, "version", 1, "version of the handlers: from 2 on with consumer groups and files of their own, beside the first")
		flags.StringVar(&c.From, "from", "", "where handlers begin whose group is new: earliest, a time such as 2026-01-01T00:00Z or 24h (ago), or PARTITION:OFFSET with commas; empty: at the oldest record")
	}
	if is(Dev, Message, Worker) {
		flags.StringVar(&c.MessageAddr, "message-addr", "127.0.0.1:9090", "where the gRPC services listen; any other host than loopback needs a service token")
	}
	if is(Dev, Connect) {
		flags.StringVar(&c.ConnectAddr, "connect-addr", map[bool]string{true: "127.0.0.1:8080", false: ":8080"}[role == Dev], "where WebSockets are accepted")
		flags.StringSliceVar(&c.AllowedOrigins, "allowed-origins", nil, "origins of web pages, besides the gateway's own host, that may connect")
		flags.BoolVar(&c.ChatPage, "chat-page", role == Dev, "serve a page to chat with at /chat/; outside dev its users paste their tokens")
		flags.IntVar(&c.SendRate, "send-rate", 2000, "messages per second that one user may send")
		flags.IntVar(&c.UserConnections, "user-connections", 100, "connections that one user may have to a gateway; those of one device count once")
		flags.IntVar(&c.MaxConnections, "max-connections", 0, "connections that the gateway takes; 0: as many as the limit of open files leaves room for")
		flags.StringVar(&c.JWKSURL, "jwks-url", "", "key set of the users' RS256 or ES256 tokens")
	}
	if is(Dev, Message, Connect) {
		flags.StringVar(&c.JWTSecret, "jwt-secret", "", "secret of the users' HS256 tokens"+map[bool]string{true: ", by which the API issues some"}[role != Connect])
	}
	if is(Dev, Message) {
		c.bindAPI(role, flags)
	}
	if is(Connect) {
		flags.StringSliceVar(&c.MessageAddrs, "message-addrs", []string{"127.0.0.1:9090"}, "message nodes to dial; a DNS name stands for all its addresses")
		flags.StringSliceVar(&c.PushAddrs, "push-addrs", nil, "push nodes to dial, likewise; empty: the message nodes")
	}
	if is(Message) {
		flags.StringSliceVar(&c.PushAddrs, "push-addrs", nil, "push nodes, of which the API asks the first for sessions if this process runs no push handler")
	}
	if is(Dev, Message, Connect, Worker) {
		flags.StringVar(&c.ServiceToken, "service-token", "", "secret that every internal gRPC call carries")
	}
	if is(Connect) {
		bindTLS(flags, "connect", tlsUse{
			ca:   "PEM file of the authorities that clients must have a certificate of; empty: they need none",
			cert: "PEM file of the gateway's certificate: WebSockets come by TLS (wss); empty: without",
		}, &c.ConnectTLS)
	}
	if is(Message, Connect, Worker) {
		c.bindServiceTLS(flags)
	}
	if is(Dev, Message, Worker) {
		flags.StringVar(&c.Rules, "rules", "", "YAML file of the rules that decide what is to become of messages; it is read again when it changes; empty: none")
	}
	if is(Dev, Message) {
		c.bindHook(flags)
	}
	flags.TextVar(&c.LogLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.StringVar(&c.LogFormat, "log-format", "text", "text or json")
	lenient(flags)
}

// BindToken adds what the command `token` needs: a secret, or the data directory of a `dev` process that drew one.
func (c *Config) BindToken(flags *pflag.FlagSet) {
	flags.StringVar(&c.DataDir, "data-dir", "./data", "directory of a dev process whose secret to use if none is given")
	flags.StringVar(&c.JWTSecret, "jwt-secret", "", "secret to sign with")
	lenient(flags)
}

// BindLog adds what the commands `poison` and `handlers` need: the brokers and how to reach them.
func (c *Config) BindLog(flags *pflag.FlagSet) {
	flags.StringSliceVar(&c.KafkaBrokers, "kafka-brokers", []string{"127.0.0.1:9092"}, "Kafka brokers, host:port with commas between")
	c.bindKafkaSecurity(flags)
	lenient(flags)
}

// BindAudit adds what the command `audit` needs: where the log is.
func (c *Config) BindAudit(flags *pflag.FlagSet) {
	flags.StringVar(&c.DataDir, "data-dir", "./data", "data directory")
	c.bindAuditFile(flags)
	lenient(flags)
}

func (c *Config) bindAuditFile(flags *pflag.FlagSet) {
	flags.StringVar(&c.AuditFile, "audit-file", "", "where the audit handler appends; empty: audit.log in the data directory")
}

// BindStats adds what the command `stats` needs: a message node and how to reach it.
func (c *Config) BindStats(flags *pflag.FlagSet) {
	c.bindMessageNode(flags)
	flags.IntVar(&c.Version, "version", 1, "version of the handler")
	lenient(flags)
}

// BindOperator adds what the commands `notice` and `token revoke` need: a message node and how to reach it.
func (c *Config) BindOperator(flags *pflag.FlagSet) {
	c.bindMessageNode(flags)
	lenient(flags)
}

func (c *Config) bindMessageNode(flags *pflag.FlagSet) {
	flags.StringSliceVar(&c.MessageAddrs, "message-addrs", []string{"127.0.0.1:9090"}, "message nodes; the first one is asked")
	flags.StringVar(&c.ServiceToken, "service-token", "", "secret that every internal gRPC call carries")
	c.bindServiceTLS(flags)
}

// BindWebhook adds what the command `webhook` needs: the endpoints, and the store that tells which are disabled.
func (c *Config) BindWebhook(flags *pflag.FlagSet) {
	c.bindWebhooks(flags)
	flags.StringVar(&c.DataDir, "data-dir", "./data", "directory of the embedded store")
	c.bindMongoDB(flags)
	lenient(flags)
}

func (c *Config) bindWebhooks(flags *pflag.FlagSet) {
	flags.StringVar(&c.Webhooks, "webhooks", "", "YAML file that lists the endpoints of the webhook handler")
}

func (c *Config) bindMongoDB(flags *pflag.FlagSet) {
	flags.StringVar(&c.MongoDBURI, "mongodb-uri", "", "MongoDB to store in, mongodb://HOST:PORT,…/DATABASE, with ?tls=true for TLS and &tlsCAFile=FILE for authorities of one's own; empty: SQLite in the data directory")
}

// Load sets from the environment what no flag has set, and checks everything. Its error has a line for each fault.
func (c *Config) Load(flags *pflag.FlagSet) error {
	fromEnvironment(flags)
	for _, list := range []*[]string{&c.KafkaBrokers, &c.AllowedOrigins, &c.MessageAddrs, &c.PushAddrs, &c.Handlers, &c.APIKeySettings, &c.APIOrigins} {
		for i, element := range *list {
			(*list)[i] = strings.TrimSpace(element)
		}
	}
	var all faults
	c.check(all.add, flags)
	if len(c.PushAddrs) == 0 {
		c.PushAddrs = c.MessageAddrs
	}
	return errors.Join(all...)
}

func adminAddr(role Role) string {
	switch role {
	case Connect:
		return "127.0.0.1:9101"
	case Worker:
		return "127.0.0.1:9102"
	case Broker:
		return "127.0.0.1:9103"
	default:
		return "127.0.0.1:9100"
	}
}

func defaultHandlers(role Role) []string {
	switch role {
	case Dev:
		return []string{"storage", "push", "users", "notice", "revocation", "groups", "audit", "operations"}
	case Message:
		return []string{"storage", "push", "users", "notice", "revocation", "groups"}
	default:
		return nil
	}
}
