package security

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Origin is the part of a page's address that browsers name to a server (RFC 6454). Two that are the same compare equal,
// whatever the case of their letters and whether or not they name the default port of the scheme.
type Origin struct{ scheme, host, port string }

// ParseOrigin reads a scheme with a host, such as https://example.com, or capacitor://localhost of an app. A slash at its end
// does no harm. It reports false for anything else, also for "null", which browsers send for an origin that they do not
// disclose.
func ParseOrigin(s string) (o Origin, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return o, false
	}
	o = Origin{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Hostname()), port: u.Port()}
	if ip := net.ParseIP(o.host); ip != nil {
		o.host = ip.String()
	}
	if o.port == "" {
		o.port = map[string]string{"http": "80", "https": "443"}[o.scheme]
	} else if n, err := strconv.ParseUint(o.port, 10, 16); err != nil || n == 0 {
		return o, false
	}
	return o, o.scheme != ""
}

// Own returns the origin of a page of this host that was reached by the same scheme. Host is as in an HTTP request.
func (o Origin) Own(host string) (Origin, bool) { return ParseOrigin(o.scheme + "://" + host) }

// MayCall reports whether the page that a request comes from is of the request's own host or of the origins allowed, among which
// "*" means any. A request without an Origin comes from no browser, and may.
func MayCall(r *http.Request, allowed []string) bool {
	named := r.Header.Values("Origin")
	if len(named) == 0 || slices.Contains(allowed, "*") {
		return true
	}
	origin, ok := ParseOrigin(named[0])
	if !ok || len(named) > 1 {
		return false
	}
	own, ok := origin.Own(r.Host)
	return ok && own == origin || OriginAllowed(named[0], allowed)
}

// OriginAllowed reports whether the origin that a browser names is one of those allowed, among which "*" means any.
func OriginAllowed(origin string, allowed []string) bool {
	if slices.Contains(allowed, "*") {
		return true
	}
	o, ok := ParseOrigin(origin)
	return ok && slices.ContainsFunc(allowed, func(a string) bool {
		other, ok := ParseOrigin(a)
		return ok && other == o
	})
}
