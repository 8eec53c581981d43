package security

import (
	"net"
	"net/http"
	"strings"
)

// OnlyLocalHosts refuses with 403 what does not ask for this machine by a loopback name or address, unless the host is allowed.
// A page of a foreign site whose name was made to stand for this machine (DNS rebinding) asks by that name, and could else read
// what is served to everybody here.
func OnlyLocalHosts(next http.Handler, allowed func(host string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !LocalHost(r.Host) && !allowed(r.Host) {
			http.Error(w, "this host is not served here", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// LocalHost reports whether a host, with or without a port, is a loopback address or "localhost" or a name below it (RFC 6761).
func LocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
