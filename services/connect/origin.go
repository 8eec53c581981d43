package connect

import (
	"net/http"

	"millrace/infra/security"
)

// originAllowed admits pages of this host and of the allowed origins, and requests without an Origin.
func (g *Gateway) originAllowed(r *http.Request) bool {
	return security.MayCall(r, g.cfg.AllowedOrigins)
}
