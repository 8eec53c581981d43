package mongo

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFaultsOfAURIAreToldWithoutSecrets(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.pem")
	for uri, want := range map[string]string{
		"postgres://u:sesame@host/db":                              "must begin with mongodb://",
		"u:sesame@host/db":                                         "must begin with mongodb://",
		"mongodb://u:ses/ame@host/db":                              "user or password",
		"mongodb://u:ses@ame@host/db":                              "user or password",
		"mongodb://u:ses%ame@host/db":                              "user or password",
		"mongodb+srv://u:ses%ame@host/db":                          "user or password",
		"mongodb://u:sesame":                                       "hosts or database",
		"mongodb://u:sesame@":                                      "hosts or database",
		"mongodb://u:sesame@host:port/db":                          "hosts or database",
		"mongodb://u:sesame@host?tls=true":                         "wants a / before the ?",
		"mongodb://u:sesame@host/db?tls=perhaps":                   "option tls=perhaps: ",
		"mongodb://u:sesame@host/db?tls=true&tlsCAFile=" + none:    "none.pem: no such file",
		"mongodb+srv://u:sesame@host/db?tlsCAFile=" + none:         "none.pem: no such file",
		"mongodb://u:sesame@host/?tls=x&w=-1":                      "several options",
		"mongodb://u:x@host/?authMechanismProperties=TOKEN,sesame": "option authmechanismproperties is not valid",
	} {
		t.Run(want, func(t *testing.T) {
			err := CheckURI(uri)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "ses")
			_, err = Open(t.Context(), uri)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "ses")
		})
	}
	for _, uri := range []string{
		"mongodb://host", "mongodb://a:1,b:2/db?replicaSet=rs0&tls=true", "mongodb://u:s%40same@host/db?authSource=admin",
		"mongodb+srv://u:sesame@host/db?srvMaxHosts=3&srvServiceName=x",
	} {
		require.NoError(t, CheckURI(uri), uri)
	}
}

func TestHostsOfAURIAreToldWithoutItsPassword(t *testing.T) {
	for uri, want := range map[string][]string{
		"mongodb://user:s3cr@et@a,b:2,[::1]/chat?x=y@z": nil,
		"mongodb://user:s3cret@a,b:2,[::1]:3/chat?w=1":  {"a:27017", "b:2", "[::1]:3"},
		"mongodb://[::1]": {"[::1]:27017"},
	} {
		hosts, err := Hosts(t.Context(), uri)
		require.NoError(t, err)
		if want != nil {
			require.Equal(t, want, hosts, uri)
		}
		require.NotContains(t, strings.Join(hosts, ","), "s3cr")
	}
}

func TestServersThatDNSDoesNotNameAreToldByTheNameThatIsAskedFor(t *testing.T) {
	const uri = "mongodb+srv://user:s3cret@nosuch.invalid/chat?srvServiceName=chats"
	hosts, err := Hosts(t.Context(), uri)
	require.Empty(t, hosts)
	require.ErrorContains(t, err, "_chats._tcp.nosuch.invalid")
	require.NotContains(t, err.Error(), "s3cret")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ctx, uri)
	require.Error(t, err, "it waits only until it is told to end")
	require.NotContains(t, err.Error(), "s3cret")
}
