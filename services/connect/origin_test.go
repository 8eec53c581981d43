package connect

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPageIsOfThisHostOrOfAnAllowedOrigin(t *testing.T) {
	g := &Gateway{cfg: Config{AllowedOrigins: []string{"https://chat.example.org", "http://dev.example.org:3000"}}}
	for _, test := range []struct {
		origins []string
		host    string
		allowed bool
	}{
		{nil, "h", true},
		{nil, "", true},
		{[]string{"http://h"}, "h", true},
		{[]string{"http://h"}, "h:80", true},
		{[]string{"http://h:80"}, "h", true},
		{[]string{"https://h"}, "h:443", true},
		{[]string{"https://H"}, "h", true},
		{[]string{"http://[::1]:8080"}, "[0:0::1]:8080", true},
		{[]string{"https://h"}, "h:80", false},
		{[]string{"http://h"}, "h:8080", false},
		{[]string{"http://h"}, "", false},
		{[]string{"http://evil"}, "h", false},
		{[]string{"null"}, "h", false},
		{[]string{"null"}, "", false},
		{[]string{""}, "", false},
		{[]string{"http://"}, "", false},
		{[]string{"http://h", "http://evil"}, "h", false},
		{[]string{"http://h@evil"}, "h", false},
		{[]string{"https://chat.example.org"}, "h", true},
		{[]string{"https://chat.example.org:443"}, "h", true},
		{[]string{"http://chat.example.org"}, "h", false},
		{[]string{"http://dev.example.org:3000"}, "h", true},
		{[]string{"http://dev.example.org"}, "h", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ws", nil)
		r.Host = test.host
		for _, origin := range test.origins {
			r.Header.Add("Origin", origin)
		}
		require.Equal(t, test.allowed, g.originAllowed(r), "%q at %q", test.origins, test.host)
	}
}
