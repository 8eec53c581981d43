// Package console serves the operator's console: a page that calls the API of its own origin, with the key that its user gives
// it.
package console

import (
	"embed"
	"io/fs"
	"net/http"

	"millrace/services/web/page"
)

//go:embed page
var files embed.FS

// Handler serves the console at /console/.
func Handler() http.Handler {
	own, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the compiler has put the folder there
	}
	return page.Serve("/console/", own)
}
