package security_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/security"
	"millrace/infra/security/securitytest"
)

func TestTLSFilesThatCannotBeUsedAreErrorsThatNameTheFile(t *testing.T) {
	dir := t.TempDir()
	authority := securitytest.NewAuthority(t)
	cert, key := authority.Files(t, "localhost")
	_, otherKey := authority.Files(t, "localhost")
	expired, expiredKey := filepath.Join(dir, "expired.pem"), filepath.Join(dir, "expired-key.pem")
	authority.Issue(t, expired, expiredKey, -time.Minute, "localhost")
	garbage, none := filepath.Join(dir, "garbage.pem"), filepath.Join(dir, "none.pem")
	require.NoError(t, os.WriteFile(garbage, []byte("no PEM"), 0o600))
	for name, test := range map[string]struct {
		files            security.TLSFiles
		part, file, want string
	}{
		"no such authority":           {security.TLSFiles{CA: none}, "ca", none, "no such file"},
		"a key for an authority":      {security.TLSFiles{CA: key}, "ca", key, "holds no certificate"},
		"no such certificate":         {security.TLSFiles{Cert: none, Key: key}, "cert", none, "no such file"},
		"a broken certificate":        {security.TLSFiles{Cert: garbage, Key: key}, "cert", garbage, "holds no certificate"},
		"no such key":                 {security.TLSFiles{Cert: cert, Key: none}, "key", none, "no such file"},
		"a broken key":                {security.TLSFiles{Cert: cert, Key: garbage}, "key", garbage, "is not the key of the certificate in " + cert},
		"another certificate's key":   {security.TLSFiles{Cert: cert, Key: otherKey}, "key", otherKey, "is not the key of the certificate in " + cert},
		"a certificate for a key":     {security.TLSFiles{Cert: cert, Key: cert}, "key", cert, "is not the key"},
		"a certificate that is past":  {security.TLSFiles{Cert: expired, Key: expiredKey}, "cert", expired, "expired at"},
		"a directory for a certifate": {security.TLSFiles{Cert: dir, Key: key}, "cert", dir, "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.files.Load()
			var file *security.FileError
			require.ErrorAs(t, err, &file)
			require.Equal(t, test.part, file.Part)
			require.Equal(t, test.file, file.File)
			require.ErrorContains(t, err, test.file+": ")
			require.ErrorContains(t, err, test.want)
		})
	}
}
