// Package console serves the operator's console: a page that calls the API of its own origin, with the key that its user gives
// it.
package console

import (
	"embed"
	"net/http"

	"millrace/services/web/page"
)

//go:embed page
var files embed.FS

// Handler serves the console at /console/.
func Handler() http.Handler { return page.Serve("/console/", files) }
