package config

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/security/securitytest"
)

func TestTLSThatCannotWorkIsOneErrorThatNamesSettingAndFile(t *testing.T) {
	authority := securitytest.NewAuthority(t)
	cert, key := authority.Files(t, "localhost")
	_, otherKey := authority.Files(t, "localhost")
	past, pastKey := filepath.Join(t.TempDir(), "past.pem"), filepath.Join(t.TempDir(), "past-key.pem")
	authority.Issue(t, past, pastKey, -time.Minute, "localhost")
	const none = "/none.pem"
	message := []string{"--kafka-brokers=a:1", "--service-tls"}
	gateway := []string{"--jwt-secret=" + secret}
	for name, test := range map[string]struct {
		role Role
		args []string
		want []string
	}{
		"a node without certificate": {Message, message, []string{"MILLRACE_SERVICE_TLS_CERT", "MILLRACE_SERVICE_TLS_KEY"}},
		"a node with an authority alone": {
			Message, append(message, "--service-tls-ca="+authority.File), []string{"MILLRACE_SERVICE_TLS_CERT", "MILLRACE_SERVICE_TLS_CA"},
		},
		"files without TLS": {
			Message, []string{"--kafka-brokers=a:1", "--service-tls-cert=" + cert, "--service-tls-key=" + key}, []string{"MILLRACE_SERVICE_TLS (--service-tls): must be true"},
		},
		"a push worker without certificate": {Worker, append(message, "--handlers=push"), []string{"MILLRACE_SERVICE_TLS_CERT"}},
		"half a pair":                       {Message, append(message, "--service-tls-cert="+cert), []string{"MILLRACE_SERVICE_TLS_CERT", "MILLRACE_SERVICE_TLS_KEY"}},
		"a missing key":                     {Message, append(message, "--service-tls-cert="+cert, "--service-tls-key="+none), []string{"MILLRACE_SERVICE_TLS_KEY (--service-tls-key): /none.pem: no such file"}},
		"the key of another":                {Message, append(message, "--service-tls-cert="+cert, "--service-tls-key="+otherKey), []string{"MILLRACE_SERVICE_TLS_KEY", otherKey, "is not the key"}},
		"an expired certificate":            {Message, append(message, "--service-tls-cert="+past, "--service-tls-key="+pastKey), []string{"MILLRACE_SERVICE_TLS_CERT", past, "expired"}},
		"a gateway's missing authority":     {Connect, append(gateway, "--service-tls", "--service-tls-ca="+none), []string{"MILLRACE_SERVICE_TLS_CA", none}},
		"a gateway's broken certificate":    {Connect, append(gateway, "--connect-tls-cert="+key, "--connect-tls-key="+key), []string{"MILLRACE_CONNECT_TLS_CERT", key, "holds no certificate"}},
		"a gateway's expired certificate":   {Connect, append(gateway, "--connect-tls-cert="+past, "--connect-tls-key="+pastKey), []string{"MILLRACE_CONNECT_TLS_CERT", past, "expired"}},
		"clients' authority alone":          {Connect, append(gateway, "--connect-tls-ca="+authority.File), []string{"MILLRACE_CONNECT_TLS_CERT", "MILLRACE_CONNECT_TLS_CA"}},
		"an expired certificate for Kafka": {
			Message, []string{"--kafka-brokers=a:1", "--kafka-tls", "--kafka-tls-cert=" + past, "--kafka-tls-key=" + pastKey}, []string{"MILLRACE_KAFKA_TLS_CERT", past, "expired"},
		},
		"the key of another for Redis": {
			Message, []string{"--kafka-brokers=a:1", "--redis-addr=rediss://a:1", "--redis-tls-cert=" + cert, "--redis-tls-key=" + otherKey}, []string{"MILLRACE_REDIS_TLS_KEY", otherKey},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.role, test.args...)
			require.Error(t, err)
			require.Len(t, strings.Split(err.Error(), "\n"), 1, err.Error())
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, err := load(t, Message, append(message, "--service-tls-cert="+cert, "--service-tls-key="+key, "--service-tls-ca="+authority.File)...)
	require.NoError(t, err)
	_, err = load(t, Worker, append(message, "--handlers=audit")...)
	require.NoError(t, err, "it serves nothing")
	_, err = load(t, Connect, append(gateway, "--service-tls", "--connect-tls-cert="+cert, "--connect-tls-key="+key)...)
	require.NoError(t, err)
}

func TestATokenThatCrossesANetworkWithoutTLSIsTold(t *testing.T) {
	authority := securitytest.NewAuthority(t)
	cert, key := authority.Files(t, "localhost")
	for name, test := range map[string]struct {
		role Role
		args []string
		want []string // what each sentence names
	}{
		"dev":                           {Dev, nil, nil},
		"a node on loopback":            {Message, []string{"--kafka-brokers=a:1", "--service-token=x"}, nil},
		"a node for others":             {Message, []string{"--kafka-brokers=a:1", "--service-token=x", "--message-addr=:9090"}, []string{"to :9090"}},
		"a node for others by TLS":      {Message, []string{"--kafka-brokers=a:1", "--service-token=x", "--message-addr=:9090", "--service-tls", "--service-tls-cert=" + cert, "--service-tls-key=" + key}, nil},
		"a worker that serves nobody":   {Worker, []string{"--kafka-brokers=a:1", "--service-token=x", "--message-addr=:9090", "--handlers=audit"}, nil},
		"a worker that pushes":          {Worker, []string{"--kafka-brokers=a:1", "--service-token=x", "--message-addr=:9090", "--handlers=push"}, []string{"to :9090"}},
		"a gateway on this machine":     {Connect, []string{"--jwt-secret=" + secret, "--service-token=x", "--connect-addr=127.0.0.1:1", "--message-addrs=localhost:1,[::1]:2,:3"}, nil},
		"a gateway without a token":     {Connect, []string{"--jwt-secret=" + secret, "--connect-addr=127.0.0.1:1", "--message-addrs=node:1"}, nil},
		"a gateway to other machines":   {Connect, []string{"--jwt-secret=" + secret, "--service-token=x", "--connect-addr=127.0.0.1:1", "--message-addrs=node:1,127.0.0.1:2", "--push-addrs=node:1,push:1"}, []string{"to node:1, push:1:"}},
		"a gateway by TLS to them":      {Connect, []string{"--jwt-secret=" + secret, "--service-token=x", "--connect-addr=127.0.0.1:1", "--message-addrs=node:1", "--service-tls"}, nil},
		"a gateway for other machines":  {Connect, []string{"--jwt-secret=" + secret}, []string{"users' tokens come without TLS to :8080"}},
		"a gateway for them, over wss":  {Connect, []string{"--jwt-secret=" + secret, "--connect-tls-cert=" + cert, "--connect-tls-key=" + key}, nil},
		"an API for other machines":     {Message, []string{"--kafka-brokers=a:1", "--api-addr=:9180", "--api-keys=shop:read:" + strings.Repeat("ab", 32)}, []string{"keys of backends come without TLS to :9180"}},
		"an API for nobody":             {Message, []string{"--kafka-brokers=a:1", "--api-addr=:9180"}, nil},
		"a gateway, everything is open": {Connect, []string{"--jwt-secret=" + secret, "--service-token=x", "--message-addrs=node:1"}, []string{"to node:1", "to :8080"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, test.role, test.args...)
			require.NoError(t, err)
			told := c.OpenTokens()
			require.Len(t, told, len(test.want), "%q", told)
			for i, want := range test.want {
				require.Contains(t, told[i], want)
				require.NotContains(t, told[i], secret)
			}
		})
	}
}
