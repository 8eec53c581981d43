// Package chat serves a chat page, which is a client of the gateway of its own origin by the TypeScript SDK.
package chat

import (
	"embed"
	"net/http"

	"millrace/services/web/page"
)

//go:embed page
var files embed.FS

// Handler serves the chat page at /chat/. It wants the SDK at /sdk/millrace.js.
func Handler() http.Handler { return page.Serve("/chat/", files) }
