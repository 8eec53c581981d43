package config

import (
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"millrace/infra/security"
)

// checkAddresses checks where the role listens, whom it dials and whose pages may connect.
func (c *Config) checkAddresses(fault func(flag, format string, args ...any), flags *pflag.FlagSet) {
	listens := func(flag, address string, mayBeNone bool) {
		switch host, port, err := net.SplitHostPort(address); {
		case flags.Lookup(flag) == nil, address == "" && mayBeNone:
		case err != nil || !isPort(port, 0) || strings.ContainsAny(host, " /"):
			fault(flag, "%q is no host:port to listen on", address)
		}
	}
	dials := func(flag string, addresses []string) {
		for _, address := range addresses {
			if host, port, err := net.SplitHostPort(address); err != nil || !isPort(port, 1) || strings.ContainsAny(host, " /") {
				fault(flag, "%q is no host:port to dial", address)
			}
		}
	}
	listens("admin-addr", c.AdminAddr, true)
	listens("api-addr", c.APIAddr, true)
	listens("connect-addr", c.ConnectAddr, false)
	listens("message-addr", c.MessageAddr, false)
	listens("embedded-kafka-addr", c.EmbeddedKafkaAddr, c.Role == Dev && len(c.KafkaBrokers) > 0)
	dials("kafka-brokers", c.KafkaBrokers)
	dials("message-addrs", c.MessageAddrs)
	dials("push-addrs", c.PushAddrs)
	if flags.Lookup("message-addrs") != nil && len(c.MessageAddrs) == 0 {
		fault("message-addrs", "must name a message node")
	}
	for _, origin := range c.AllowedOrigins {
		if _, ok := security.ParseOrigin(origin); !ok && origin != "*" {
			fault("allowed-origins", "%q is neither * nor an origin such as https://example.com", origin)
		}
	}
}

func isPort(port string, least uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= least
}
