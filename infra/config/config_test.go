package config

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

const secret = "0123456789abcdef0123456789abcdef"

func load(t *testing.T, role Role, args ...string) (Config, error) {
	t.Helper()
	var c Config
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Bind(role, flags)
	require.NoError(t, flags.Parse(args))
	return c, c.Load(flags)
}

func TestDevNeedsNothing(t *testing.T) {
	c, err := load(t, Dev)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8080", c.ConnectAddr, "whoever reaches it may be any user")
	require.Equal(t, []string{"storage", "push", "users", "notice", "revocation", "groups", "audit", "operations"}, c.Handlers)
}

func TestFlagWinsOverEnvironmentWinsOverDefault(t *testing.T) {
	t.Setenv("MILLRACE_DATA_DIR", "/from-env")
	t.Setenv("MILLRACE_LOG_LEVEL", "debug")
	t.Setenv("MILLRACE_KAFKA_BROKERS", "a:1,b:2")
	c, err := load(t, Message, "--data-dir=/from-flag")
	require.NoError(t, err)
	require.Equal(t, "/from-flag", c.DataDir)
	require.Equal(t, slog.LevelDebug, c.LogLevel)
	require.Equal(t, []string{"a:1", "b:2"}, c.KafkaBrokers)
	require.Equal(t, "127.0.0.1:9090", c.MessageAddr)
}

func TestPushNodesAreTheMessageNodesUnlessSaid(t *testing.T) {
	c, err := load(t, Connect, "--jwt-secret="+secret, "--message-addrs=a:1,b:2")
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, c.PushAddrs)
}

func TestAllFaultsAreReportedAtOnceAndWithoutSecrets(t *testing.T) {
	t.Setenv("MILLRACE_SEND_RATE", "many")
	_, err := load(t, Connect, "--connect-addr=8080", "--message-addrs=x", "--jwt-secret=tooshort", "--log-format=xml",
		"--user-connections=1e3", "--log-level=loud", "--service-tls=maybe", `--push-addrs=a"b`)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	wants := []string{
		"MILLRACE_SEND_RATE (--send-rate): is no whole number", "MILLRACE_USER_CONNECTIONS (--user-connections): is no whole number",
		"MILLRACE_LOG_LEVEL (--log-level): is none of", "MILLRACE_SERVICE_TLS (--service-tls): is neither true nor false",
		"MILLRACE_PUSH_ADDRS", "MILLRACE_CONNECT_ADDR", "MILLRACE_MESSAGE_ADDRS", "MILLRACE_JWT_SECRET", "MILLRACE_LOG_FORMAT",
	}
	require.Len(t, lines, len(wants), "each is told once")
	for _, want := range wants {
		require.Contains(t, err.Error(), want)
	}
	require.NotContains(t, err.Error(), "tooshort")
}

func TestAddressesThatHoldPasswordsAreCheckedAndNotShown(t *testing.T) {
	t.Setenv("MILLRACE_MONGODB_URI", "mongodb://user:sesame/@host")
	t.Setenv("MILLRACE_REDIS_ADDR", "redis://:sesame@host/one")
	_, err := load(t, Dev, "--jwks-url=htp://user:sesame@host", "--log-format=xml")
	require.Error(t, err)
	for _, want := range []string{
		"MILLRACE_MONGODB_URI (--mongodb-uri): user or password", "MILLRACE_REDIS_ADDR (--redis-addr): is neither",
		"MILLRACE_JWKS_URL (--jwks-url): is no", "MILLRACE_LOG_FORMAT",
	} {
		require.Contains(t, err.Error(), want)
	}
	require.NotContains(t, err.Error(), "sesame")
	for _, address := range []string{"user:sesame@host:6379", "sesame@host:6379"} {
		_, err = load(t, Dev, "--mongodb-uri=mongo://user:sesame@host", "--redis-addr="+address)
		require.Len(t, strings.Split(err.Error(), "\n"), 2)
		require.NotContains(t, err.Error(), "sesame")
	}
}

func TestRoleIsRefusedWithoutWhatItNeeds(t *testing.T) {
	hash := strings.Repeat("ab", 32) // of a key
	for name, test := range map[string]struct {
		role Role
		args []string
		want string
	}{
		"message without broker":             {Message, nil, "MILLRACE_KAFKA_BROKERS"},
		"worker without broker":              {Worker, []string{"--handlers=audit"}, "MILLRACE_KAFKA_BROKERS"},
		"connect without keys":               {Connect, nil, "MILLRACE_JWT_SECRET"},
		"connect with two kinds of keys":     {Connect, []string{"--jwt-secret=" + secret, "--jwks-url=https://x/keys"}, "MILLRACE_JWKS_URL"},
		"connect with a strange key set":     {Connect, []string{"--jwks-url=file:///keys"}, "MILLRACE_JWKS_URL"},
		"message open to others, no token":   {Message, []string{"--kafka-brokers=a:1", "--message-addr=0.0.0.0:9090"}, "MILLRACE_SERVICE_TOKEN"},
		"message on all hosts, no token":     {Message, []string{"--kafka-brokers=a:1", "--message-addr=:9090"}, "MILLRACE_SERVICE_TOKEN"},
		"no rate":                            {Dev, []string{"--send-rate=0"}, "MILLRACE_SEND_RATE"},
		"no connections of a user":           {Dev, []string{"--user-connections=0"}, "MILLRACE_USER_CONNECTIONS"},
		"less than no connections":           {Dev, []string{"--max-connections=-1"}, "MILLRACE_MAX_CONNECTIONS"},
		"fewer than no partitions":           {Dev, []string{"--topic-partitions=-1"}, "MILLRACE_TOPIC_PARTITIONS"},
		"two million partitions":             {Dev, []string{"--topic-partitions=2000000"}, "MILLRACE_TOPIC_PARTITIONS"},
		"dev without handlers":               {Dev, []string{"--handlers="}, "MILLRACE_HANDLERS"},
		"a handler twice":                    {Dev, []string{"--handlers=storage,push,storage"}, "MILLRACE_HANDLERS"},
		"an instance with a space":           {Dev, []string{"--instance-id=a b"}, "MILLRACE_INSTANCE_ID"},
		"an instance of dots":                {Dev, []string{"--instance-id=.."}, "MILLRACE_INSTANCE_ID"},
		"an instance that is too long":       {Dev, []string{"--instance-id=" + strings.Repeat("a", 250)}, "MILLRACE_INSTANCE_ID"},
		"a rate beyond any machine":          {Dev, []string{"--send-rate=2000000000"}, "MILLRACE_SEND_RATE"},
		"worker without handlers":            {Worker, []string{"--kafka-brokers=a:1"}, "MILLRACE_HANDLERS"},
		"no data directory":                  {Dev, []string{"--data-dir="}, "MILLRACE_DATA_DIR"},
		"a gateway without message nodes":    {Connect, []string{"--jwt-secret=" + secret, "--message-addrs="}, "MILLRACE_MESSAGE_ADDRS"},
		"an empty element in a list":         {Connect, []string{"--jwt-secret=" + secret, "--message-addrs=a:1,,b:2"}, "MILLRACE_MESSAGE_ADDRS"},
		"a port that there is not":           {Connect, []string{"--jwt-secret=" + secret, "--push-addrs=a:65536"}, "MILLRACE_PUSH_ADDRS"},
		"a node on no port":                  {Message, []string{"--kafka-brokers=a:0"}, "MILLRACE_KAFKA_BROKERS"},
		"a gateway that listens nowhere":     {Dev, []string{"--connect-addr="}, "MILLRACE_CONNECT_ADDR"},
		"a named port to listen on":          {Dev, []string{"--admin-addr=127.0.0.1:http"}, "MILLRACE_ADMIN_ADDR"},
		"an origin of colons":                {Dev, []string{"--allowed-origins=:::"}, "MILLRACE_ALLOWED_ORIGINS"},
		"an origin on no port":               {Dev, []string{"--allowed-origins=https://host:0"}, "MILLRACE_ALLOWED_ORIGINS"},
		"an origin that is a page":           {Dev, []string{"--allowed-origins=https://host/page"}, "MILLRACE_ALLOWED_ORIGINS"},
		"an origin without scheme":           {Dev, []string{"--allowed-origins=example.com"}, "MILLRACE_ALLOWED_ORIGINS"},
		"negative replication":               {Dev, []string{"--topic-replication=-1"}, "MILLRACE_TOPIC_REPLICATION"},
		"more in sync than replicas":         {Dev, []string{"--topic-replication=2", "--topic-min-isr=3"}, "MILLRACE_TOPIC_MIN_ISR"},
		"a store of another kind":            {Dev, []string{"--mongodb-uri=postgres://x"}, "MILLRACE_MONGODB_URI"},
		"Kafka TLS files without TLS":        {Message, []string{"--kafka-brokers=a:1", "--kafka-tls-ca=x"}, "MILLRACE_KAFKA_TLS"},
		"half a client certificate":          {Message, []string{"--kafka-brokers=a:1", "--kafka-tls", "--kafka-tls-key=x"}, "MILLRACE_KAFKA_TLS_CERT"},
		"no such Kafka authority":            {Message, []string{"--kafka-brokers=a:1", "--kafka-tls", "--kafka-tls-ca=none.pem"}, "MILLRACE_KAFKA_TLS_CA"},
		"Redis TLS files without TLS":        {Dev, []string{"--redis-addr=redis://a", "--redis-tls-ca=x"}, "MILLRACE_REDIS_ADDR"},
		"Redis TLS files without Redis":      {Dev, []string{"--redis-tls-ca=x"}, "MILLRACE_REDIS_ADDR"},
		"no such Redis authority":            {Dev, []string{"--redis-addr=rediss://a", "--redis-tls-ca=none.pem"}, "MILLRACE_REDIS_TLS_CA"},
		"half a client certificate of Redis": {Dev, []string{"--redis-addr=rediss://a", "--redis-tls-cert=x"}, "MILLRACE_REDIS_TLS_CERT"},
		"a Redis address without port":       {Dev, []string{"--redis-addr=a"}, "MILLRACE_REDIS_ADDR"},
		"no such MongoDB authority":          {Dev, []string{"--mongodb-uri=mongodb://a/?tlsCAFile=none.pem"}, "MILLRACE_MONGODB_URI"},
		"an unknown SASL mechanism":          {Worker, []string{"--handlers=audit", "--kafka-brokers=a:1", "--kafka-sasl=gssapi"}, "MILLRACE_KAFKA_SASL"},
		"SASL without password":              {Worker, []string{"--handlers=audit", "--kafka-brokers=a:1", "--kafka-sasl=plain", "--kafka-sasl-user=x"}, "MILLRACE_KAFKA_SASL_PASSWORD"},
		"a SASL user without mechanism":      {Worker, []string{"--handlers=audit", "--kafka-brokers=a:1", "--kafka-sasl-user=x"}, "MILLRACE_KAFKA_SASL"},
		"SASL to the embedded broker":        {Dev, []string{"--kafka-sasl=plain", "--kafka-sasl-user=x", "--kafka-sasl-password=y"}, "MILLRACE_KAFKA_BROKERS"},
		"a hook without a secret":            {Dev, []string{"--hook-url=https://x/hook"}, "MILLRACE_HOOK_SECRET"},
		"a key of the API that is none":      {Message, []string{"--kafka-brokers=a:1", "--api-keys=shop:read"}, "MILLRACE_API_KEYS"},
		"two keys of one name":               {Message, []string{"--kafka-brokers=a:1", "--api-keys=a:read:" + hash + ",a:send:" + hash}, "MILLRACE_API_KEYS"},
		"no requests of the API":             {Message, []string{"--kafka-brokers=a:1", "--api-rate=0"}, "MILLRACE_API_RATE"},
		"a system that is no user":           {Dev, []string{"--api-system-user=-1"}, "MILLRACE_API_SYSTEM_USER"},
		"an origin of the API that is none":  {Dev, []string{"--api-origins=example.com"}, "MILLRACE_API_ORIGINS"},
		"an API that listens nowhere":        {Dev, []string{"--api-addr=9180"}, "MILLRACE_API_ADDR"},
		"a certificate of the API alone":     {Message, []string{"--kafka-brokers=a:1", "--api-tls-cert=nothing.pem"}, "MILLRACE_API_TLS_KEY"},
		"a hook's secret without hook":       {Dev, []string{"--hook-secret=whsec_" + secret}, "MILLRACE_HOOK_URL"},
		"a hook's secret that is too short":  {Dev, []string{"--hook-url=https://x/hook", "--hook-secret=whsec_AAAA"}, "MILLRACE_HOOK_SECRET"},
		"a hook that is no URL":              {Dev, []string{"--hook-url=x:80/hook", "--hook-secret=whsec_" + secret}, "MILLRACE_HOOK_URL"},
		"a hook that takes too long":         {Dev, []string{"--hook-timeout=3s"}, "MILLRACE_HOOK_TIMEOUT"},
		"a hook that may take no time":       {Dev, []string{"--hook-timeout=0"}, "MILLRACE_HOOK_TIMEOUT"},
		"a hook that fails half":             {Dev, []string{"--hook-fail=ajar"}, "MILLRACE_HOOK_FAIL"},
		"dev with a message address of none": {Dev, []string{"--message-addr=nowhere"}, "MILLRACE_MESSAGE_ADDR"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.role, test.args...)
			require.ErrorContains(t, err, test.want)
			require.Len(t, strings.Split(err.Error(), "\n"), 1)
		})
	}
}

func TestLoopbackMayServeWithoutToken(t *testing.T) {
	for _, address := range []string{"127.0.0.1:1", "localhost:1", "[::1]:1"} {
		_, err := load(t, Message, "--kafka-brokers=a:1", "--message-addr="+address)
		require.NoError(t, err, address)
	}
}

func TestOriginsAreTakenAsBrowsersWriteThem(t *testing.T) {
	_, err := load(t, Dev, "--allowed-origins=*,http://localhost:3000,https://EXAMPLE.com/,https://[::1]:8443,capacitor://localhost")
	require.NoError(t, err)
}

func TestMisspeltVariablesAreFoundAmongThoseOfServices(t *testing.T) {
	require.Equal(t, []string{"MILLRACE_DATADIR", "MILLRACE_KAFKA_BROKER"}, Unknown([]string{
		"MILLRACE_KAFKA_BROKER=a:1", "MILLRACE_DATADIR=/data", "MILLRACE_KAFKA_BROKERS=a:1", "MILLRACE_CONNECT_ADDR=:1",
		"MILLRACE_TOKEN=x", "MILLRACE_TEST_KAFKA=x", "PATH=/bin", "millrace_x=1",
		"MILLRACE_REDIS_SERVICE_HOST=10.0.0.1", "MILLRACE_REDIS_SERVICE_PORT=6379", "MILLRACE_REDIS_SERVICE_PORT_TLS=6380",
		"MILLRACE_REDIS_PORT=tcp://10.0.0.1:6379", "MILLRACE_REDIS_PORT_6379_TCP=tcp://10.0.0.1:6379",
		"MILLRACE_REDIS_PORT_6379_TCP_PROTO=tcp", "MILLRACE_REDIS_PORT_6379_TCP_PORT=6379", "MILLRACE_REDIS_PORT_6379_TCP_ADDR=10.0.0.1",
	}, "token"))
}

func TestSpacesInListsDoNotCount(t *testing.T) {
	c, err := load(t, Message, "--handlers= storage , push ", "--kafka-brokers=a:1, b:2")
	require.NoError(t, err)
	require.Equal(t, []string{"storage", "push"}, c.Handlers)
	require.Equal(t, []string{"a:1", "b:2"}, c.KafkaBrokers)
}
