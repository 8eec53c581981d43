package chat_test

import (
	"net/http"
	"testing"

	"millrace/services/web/chat"
	"millrace/services/web/page/pagetest"
	"millrace/services/web/sdk"
)

func TestThePageIsMadeOfItsOwnFiles(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/chat/", chat.Handler())
	mux.Handle("/sdk/", sdk.Handler())
	pagetest.MadeOfOwnFiles(t, mux, "/chat/")
}
