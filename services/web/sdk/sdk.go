// Package sdk is the TypeScript client of the WebSocket protocol, and serves it to browsers. The sources are in src; dist has
// what is built from them, for browsers and for npm. README.md is for its users.
package sdk

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"time"
)

//go:generate go test -count=1 -run TestBuilt -update .

//go:embed dist/millrace.js dist/millrace.global.js
var built embed.FS

// Handler serves the built files at /sdk/millrace.js, a module, and /sdk/millrace.global.js, a script. Pages of any origin may
// load them. A browser asks each time whether its copy is still good, because the address of the next version is the same.
func Handler() http.Handler {
	mux := http.NewServeMux()
	for _, name := range []string{"millrace.js", "millrace.global.js"} {
		mux.Handle("GET /sdk/"+name, serve(name))
	}
	return mux
}

func serve(name string) http.HandlerFunc {
	content, err := built.ReadFile("dist/" + name)
	if err != nil {
		panic(err) // the compiler has put it there
	}
	sum := sha256.Sum256(content)
	etag := `"` + hex.EncodeToString(sum[:16]) + `"`
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", etag)
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	}
}
