package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func TestNameOfAPrivateAddressIsNotReached(t *testing.T) {
	r := newReceiver(t, status(http.StatusOK))
	r.server.StartTLS()
	for _, host := range []string{"localhost", "127.0.0.1", "[::ffff:127.0.0.1]"} {
		c := r.endpoint()
		c.URL = strings.Replace(c.URL, "127.0.0.1", host, 1)
		c.AllowPrivate = false
		e, _ := open(t, c, nil)
		err := e.handle(t.Context(), message(2, 11))
		require.ErrorIs(t, err, ErrPrivate, host)
		require.False(t, events.IsPermanent(err))
	}
	require.Empty(t, r.got)
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	transport, ok := newClient(&Endpoint{URL: "https://example.com", Parallel: 1}, nil).Transport.(*http.Transport)
	require.True(t, ok)
	require.Nil(t, transport.Proxy)
}

func TestCertificateThatIsNotTrustedIsRefused(t *testing.T) {
	r := newReceiver(t, status(http.StatusOK))
	r.server.StartTLS()
	stranger, _ := open(t, r.endpoint(), nil)
	err := stranger.handle(t.Context(), message(2, 11))
	var untrusted *tls.CertificateVerificationError
	require.ErrorAs(t, err, &untrusted)
	require.False(t, events.IsPermanent(err))
	require.Empty(t, r.got)

	pool := x509.NewCertPool()
	pool.AddCert(r.server.Certificate())
	friend, _ := open(t, r.endpoint(), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	require.NoError(t, friend.handle(t.Context(), message(2, 11)))
	require.Len(t, r.got, 1)
}

func TestAddressesThatMayBeDialled(t *testing.T) {
	for address, public := range map[string]bool{
		"1.1.1.1": true, "93.184.216.34": true, "2606:4700::1111": true,
		"127.0.0.1": false, "127.8.8.8": false, "::1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false,
		"10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "fd00::1": false,
		"169.254.169.254": false, "fe80::1%eth0": false, "fec0::1": false, "100.64.0.1": false,
		"224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "240.0.0.1": false,
		"192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false, "2001:db8::1": false,
		"::ffff:127.0.0.1": false, "::ffff:1.1.1.1": true, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001::1": false,
	} {
		ip := netip.MustParseAddr(address)
		require.Equal(t, public, isPublic(ip), address)
		to := netip.AddrPortFrom(ip, 443).String()
		if public {
			require.NoError(t, mayDial(to, false, false), address)
			require.ErrorIs(t, mayDial(to, true, true), errPlain, "%s without TLS", address)
		} else {
			require.ErrorIs(t, mayDial(to, false, false), ErrPrivate, address)
			require.NoError(t, mayDial(to, true, true), address)
		}
	}
	require.Error(t, mayDial("nowhere", true, false))
}

func TestPingTellsStatusAndTime(t *testing.T) {
	r := receive(t, status(http.StatusTeapot))
	pinged, err := Ping(t.Context(), r.endpoint(), "ping-1")
	require.NoError(t, err)
	require.Equal(t, "418 I'm a teapot", pinged.Status)
	require.False(t, pinged.OK)
	require.Positive(t, pinged.Took)
	require.Equal(t, "ping-1", r.got[0].id)
	require.EqualValues(t, "ping", r.got[0].body.Type)
	r.server.Close()
	_, err = Ping(t.Context(), r.endpoint(), "ping-2")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestRetryAfterIsSecondsOrATime(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "soon": 0, "0": 0, "-5": 0, "7": 7 * time.Second, "999999999999": time.Hour, "99999999999999999999": 0,
		"Thu, 26 Nov 2026 12:00:30 GMT": 30 * time.Second, "Thu, 26 Nov 2026 11:00:00 GMT": 0, "Thu, 26 Nov 2027 12:00:00 GMT": time.Hour,
	} {
		require.Equal(t, want, retryAfter(header, now), header)
	}
}
