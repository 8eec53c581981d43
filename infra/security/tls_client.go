package security

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// BindClient adds the TLS flags of a command that connects to a gateway.
func (f *TLSFiles) BindClient(flags *pflag.FlagSet) {
	flags.StringVar(&f.CA, "tls-ca", "", "wss: PEM file of the authorities for the gateway's certificate; empty: the system's")
	flags.StringVar(&f.Cert, "tls-cert", "", "wss: PEM file of a certificate of one's own, where the gateway wants one")
	flags.StringVar(&f.Key, "tls-key", "", "wss: PEM file of its key")
}

// LoadClient calls [TLSFiles.Load] for a gateway's URL. It returns nil if the URL is not wss. The error names the flag.
func (f TLSFiles) LoadClient(url string) (*tls.Config, error) {
	switch {
	case !strings.HasPrefix(url, "wss://") && f.Named():
		return nil, errors.New("--tls-ca, --tls-cert and --tls-key want a --url that begins with wss://")
	case !strings.HasPrefix(url, "wss://"):
		return nil, nil
	case (f.Cert == "") != (f.Key == ""):
		return nil, errors.New("--tls-cert and --tls-key: name both or neither")
	}
	c, err := f.Load()
	var file *FileError
	if errors.As(err, &file) {
		return nil, fmt.Errorf("--tls-%s=%w", file.Part, err)
	}
	return c, err
}
