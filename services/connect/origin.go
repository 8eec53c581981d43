package connect

import (
	"net/http"
	"slices"

	"millrace/infra/security"
)

// originAllowed admits pages of this host and of the allowed origins, and requests without an Origin, which come from no
// browser.
func (g *Gateway) originAllowed(r *http.Request) bool {
	named := r.Header.Values("Origin")
	if len(named) == 0 || slices.Contains(g.cfg.AllowedOrigins, "*") {
		return true
	}
	origin, ok := security.ParseOrigin(named[0])
	if !ok || len(named) > 1 {
		return false
	}
	own, ok := origin.Own(r.Host)
	return ok && own == origin || security.OriginAllowed(named[0], g.cfg.AllowedOrigins)
}
