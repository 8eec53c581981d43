package security_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/security"
)

func TestAForeignNameOfThisMachineIsRefused(t *testing.T) {
	handler := security.OnlyLocalHosts(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		func(host string) bool { return host == "chat.example.org" },
	)
	for host, served := range map[string]bool{
		"localhost": true, "LOCALHOST:8080": true, "localhost.": true, "app.localhost:1": true, "127.0.0.1": true, "127.1.2.3:8080": true, "[::1]": true,
		"[::1]:8080": true, "chat.example.org": true,
		"": false, "evil.example.org": false, "evil.example.org:8080": false, "localhost.evil.example.org": false, "xlocalhost": false,
		"127.0.0.1.evil.example.org": false, "192.168.1.5:8080": false, "0.0.0.0": false, "[fe80::1]:8080": false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, map[bool]int{true: http.StatusNoContent, false: http.StatusForbidden}[served], w.Code, host)
	}
}
