package mongo

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/security/securitytest"
	"millrace/infra/store/mongo/mongotest"
)

func TestTLS(t *testing.T) {
	cert, key := securitytest.Certificate(t)
	stranger, strangerKey := securitytest.Certificate(t)
	uri := mongotest.StartTLS(t, cert, key).Database(t)
	client := "&tlsCertificateFile=" + cert + "&tlsPrivateKeyFile=" + key
	require.NoError(t, opened(t, uri+"&tlsCAFile="+cert+client).Ping(t.Context()))

	for options, want := range map[string]string{
		client:                            "the server's certificate is not trusted",
		client + "&tlsCAFile=" + stranger: "the server's certificate is not trusted",
		"&tlsCAFile=" + cert:              "the server refuses this client's certificate, or its lack of one",
		"&tlsCAFile=" + cert + "&tlsCertificateFile=" + stranger + "&tlsPrivateKeyFile=" + strangerKey: "the server refuses this client's certificate",
	} {
		_, err := Open(t.Context(), uri+options)
		require.ErrorContains(t, err, "open MongoDB: "+want)
	}
}
