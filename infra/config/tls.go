package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"millrace/infra/security"
)

// bindServiceTLS adds the flags for TLS between nodes.
func (c *Config) bindServiceTLS(flags *pflag.FlagSet) {
	flags.BoolVar(&c.ServiceTLS, "service-tls", false, "reach message and push nodes by TLS, and serve gRPC by TLS only")
	bindTLS(flags, "service", tlsUse{
		ca:   "PEM file of the authorities for the certificates of other nodes, which must then all have one; empty: the system's, and gateways need none",
		cert: "PEM file of this node's certificate, for the names by which it is dialled",
	}, &c.ServiceTLSFiles)
}

func (c *Config) checkServiceTLS(fault func(flag, format string, args ...any)) {
	switch files := c.ServiceTLSFiles; {
	case !c.ServiceTLS && files.Named():
		fault("service-tls", "must be true where files for TLS are named")
	case !c.ServiceTLS:
	case c.servesGRPC():
		checkServerTLS(fault, "service", files)
		if !files.Named() {
			fault("service-tls-cert", "must be set, and %s, to serve gRPC by TLS", EnvName("service-tls-key"))
		}
	default:
		checkFiles(fault, "service", files)
	}
}

// checkServerTLS reads the files of a server, if it has any.
func checkServerTLS(fault func(flag, format string, args ...any), kind string, files security.TLSFiles) {
	switch {
	case files.Cert == "" && files.Key == "" && files.CA != "":
		fault(kind+"-tls-cert", "must be set, and %s, where %s is", EnvName(kind+"-tls-key"), EnvName(kind+"-tls-ca"))
	case files.Named():
		checkFiles(fault, kind, files)
	}
}

// servesGRPC reports whether the role listens on the message address.
func (c *Config) servesGRPC() bool {
	return c.Role == Dev || c.Role == Message || c.Role == Worker && slices.Contains(c.Handlers, "push")
}

// OpenTokens returns a sentence for each place where tokens cross a network without TLS, with the setting that would change
// it.
func (c *Config) OpenTokens() []string {
	var all []string
	if c.ServiceToken != "" && !c.ServiceTLS {
		if c.servesGRPC() && !loopback(c.MessageAddr) {
			all = append(all, fmt.Sprintf("the service token comes without TLS to %s: set %s", c.MessageAddr, EnvName("service-tls")))
		}
		nodes := slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.MessageAddrs, c.PushAddrs))))
		nodes = slices.DeleteFunc(nodes, func(node string) bool { return loopback(node) || strings.HasPrefix(node, ":") })
		if len(nodes) > 0 {
			all = append(all, fmt.Sprintf("the service token goes without TLS to %s: set %s", strings.Join(nodes, ", "), EnvName("service-tls")))
		}
	}
	if c.ConnectAddr != "" && c.ConnectTLS.Cert == "" && !loopback(c.ConnectAddr) {
		all = append(all, fmt.Sprintf("users' tokens come without TLS to %s: set %s, or let only a proxy reach it that ends TLS",
			c.ConnectAddr, EnvName("connect-tls-cert")))
	}
	if c.ServesAPI() && c.APITLS.Cert == "" && !loopback(c.APIAddr) {
		all = append(all, fmt.Sprintf("the keys of backends come without TLS to %s: set %s, or let only a proxy reach it that ends TLS",
			c.APIAddr, EnvName("api-tls-cert")))
	}
	return all
}

// loopback reports whether only this machine can reach the address, which is host:port.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // another check reports that it is no host:port
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
