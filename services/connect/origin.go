package connect

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// originAllowed admits pages of this host and of the allowed origins, and requests without an Origin, which come from no
// browser.
func (g *Gateway) originAllowed(r *http.Request) bool {
	named := r.Header.Values("Origin")
	if len(named) == 0 || slices.Contains(g.cfg.AllowedOrigins, "*") {
		return true
	}
	origin, ok := parseOrigin(named[0])
	if !ok || len(named) > 1 {
		return false
	}
	own, ok := parseOrigin(origin.scheme + "://" + r.Host)
	if ok && own == origin {
		return true
	}
	return slices.ContainsFunc(g.cfg.AllowedOrigins, func(allowed string) bool {
		o, ok := parseOrigin(allowed)
		return ok && o == origin
	})
}

// origin is the part of a page's address that is compared (RFC 6454). Two origins are equal whatever the case of their
// letters, and whether or not they name the default port of the scheme.
type origin struct{ scheme, host, port string }

// parseOrigin reads a scheme with a host. It reports false for "null", which browsers send for an origin that they do not
// disclose.
func parseOrigin(s string) (o origin, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return o, false
	}
	o = origin{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Hostname()), port: u.Port()}
	if ip := net.ParseIP(o.host); ip != nil {
		o.host = ip.String()
	}
	if o.port == "" {
		o.port = map[string]string{"http": "80", "https": "443"}[o.scheme]
	}
	return o, true
}
