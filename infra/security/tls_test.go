package security_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/security"
	"millrace/infra/security/securitytest"
)

func TestTLSFilesThatCannotBeUsedAreErrors(t *testing.T) {
	certFile, keyFile := securitytest.Certificate(t)
	other, _ := securitytest.Certificate(t)
	for name, files := range map[string]security.TLSFiles{
		"no such authority":       {CA: filepath.Join(t.TempDir(), "none")},
		"a key for an authority":  {CA: keyFile},
		"another certificate's":   {Cert: other, Key: keyFile},
		"a certificate for a key": {Cert: certFile, Key: certFile},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := files.Load()
			require.Error(t, err)
		})
	}
}
