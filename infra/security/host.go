package security

import (
	"net"
	"net/http"
	"strings"
)

// OnlyLocalHosts refuses with 403 a request whose Host is no loopback name or address, unless the host is allowed. A page of
// a foreign site whose name was made to resolve to this machine (DNS rebinding) sends that name as the Host, and could
// otherwise read what is served to everybody on this machine.
func OnlyLocalHosts(next http.Handler, allowed func(host string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !LocalHost(r.Host) && !allowed(r.Host) {
			http.Error(w, "this host is not served here", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// LocalHost reports whether a host, with or without a port, is a loopback address, "localhost", or a name below it (RFC
// 6761).
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
