// Package page serves the pages for browsers, whose files they get as they are, under a policy that keeps each page to its own
// origin.
package page

import (
	"embed"
	"io/fs"
	"net/http"
	"slices"
	"strings"
)

//go:embed dom.js theme.css
var shared embed.FS

// policy lets a page load nothing from elsewhere and run nothing but files of its origin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve returns a handler of the files in the folder page, below the path, which begins and ends with a slash. Beside them it
// has dom.js, by which all pages make their elements, and theme.css, which makes them look alike.
func Serve(path string, files fs.FS) http.Handler {
	folder, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the name is valid
	}
	own, common := http.StripPrefix(path, http.FileServerFS(folder)), http.StripPrefix(path, http.FileServerFS(shared))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		if slices.Contains([]string{"dom.js", "theme.css"}, strings.TrimPrefix(r.URL.Path, path)) {
			common.ServeHTTP(w, r)
			return
		}
		own.ServeHTTP(w, r)
	})
}
