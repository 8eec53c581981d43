package config

import (
	"net/url"
	"slices"
	"strings"
)

// AllowsHost reports whether the host (with its port, if the address has one) is that of an origin whose pages may connect.
func (c *Config) AllowsHost(host string) bool {
	return slices.ContainsFunc(c.AllowedOrigins, func(origin string) bool {
		u, err := url.Parse(origin)
		return origin == "*" || err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
	})
}
