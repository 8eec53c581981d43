package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

const (
	// maxResponseBytes is how much of a response is read so that its connection can be used again. The rest closes it.
	maxResponseBytes = 16 << 10
	maxHeaderBytes   = 16 << 10
	keepAlive        = 90 * time.Second
)

// ErrPrivate is the reason why an address inside of a network is not dialled.
var ErrPrivate = errors.New("not a public address, and allow_private is not set")

// errPlain is the reason why an address on the internet is not dialled without TLS.
var errPlain = errors.New("a public address, which must be reached by https")

// newClient returns a client that sends to the endpoint and nowhere else: it follows no redirects, uses no proxy, and looks at
// every address after the look-up of the name, right before it is dialled.
func newClient(e *Endpoint, trust *tls.Config) *http.Client {
	plain := strings.HasPrefix(strings.ToLower(e.URL), "http:")
	dialer := &net.Dialer{Timeout: e.Timeout, KeepAlive: keepAlive, Control: func(_, address string, _ syscall.RawConn) error {
		return mayDial(address, e.AllowPrivate, plain)
	}}
	return &http.Client{
		Timeout:       e.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: trust.Clone(), TLSHandshakeTimeout: e.Timeout, ForceAttemptHTTP2: true,
			MaxConnsPerHost: e.Parallel, MaxIdleConnsPerHost: e.Parallel, IdleConnTimeout: keepAlive,
			DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes,
		},
	}
}

// mayDial returns why the address, IP:PORT, must not be dialled.
func mayDial(address string, allowPrivate, plain bool) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	switch public := isPublic(to.Addr()); {
	case !public && !allowPrivate:
		return fmt.Errorf("%s: %w", to.Addr(), ErrPrivate)
	case public && plain:
		return fmt.Errorf("%s: %w", to.Addr(), errPlain)
	}
	return nil
}

// isPublic reports whether the address may belong to somebody on the internet. It goes by IANA's registries of special-purpose
// addresses (RFC 6890). Addresses that carry another one inside, which a gateway would forward to, are not public.
func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, special := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		if netip.MustParsePrefix(special).Contains(ip) {
			return false
		}
	}
	return true
}
