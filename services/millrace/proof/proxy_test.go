package proof

import (
	"context"
	"fmt"
	"strings"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// proxied puts a proxy in front of each address, for the gateway only, and returns where the proxies listen.
func (c *cluster) proxied(gateway string, addresses []string) []string {
	c.t.Helper()
	toxics.Register("hole", new(hole))
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	free := FreeAddresses(c.t, len(addresses))
	for i, address := range addresses {
		proxy := toxiproxy.NewProxy(server, gateway+" to "+address, free[i], address)
		require.NoError(c.t, proxy.Start())
		c.t.Cleanup(proxy.Stop)
		c.proxies = append(c.proxies, proxy)
	}
	return free
}

// slow delays everything that runs through the proxy, until the function that it returns is called.
func slow(ctx context.Context, proxy *toxiproxy.Proxy) (heal func() error, err error) {
	const toxic = `{"name":"slow","type":"latency","stream":"downstream","attributes":{"latency":300,"jitter":200}}`
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		return nil, err
	}
	return func() error { return proxy.Toxics.RemoveToxic(ctx, "slow") }, nil
}

// swallow stops all traffic through the proxy in the direction (upstream to the node or downstream to the gateway) until the
// function that it returns is called. The connections stay open, even if the other end has closed.
func swallow(ctx context.Context, proxy *toxiproxy.Proxy, direction string) (heal func() error, err error) {
	toxic := fmt.Sprintf(`{"name":"swallow-%[1]s","type":"hole","stream":"%[1]s"}`, direction)
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		return nil, err
	}
	return func() error { return proxy.Toxics.RemoveToxic(ctx, "swallow-"+direction) }, nil
}

// hole is a toxic in which everything disappears, even the end of the connection, which toxiproxy's own toxic lets through.
type hole struct{}

var _ toxics.CleanupToxic = (*hole)(nil)

// Pipe implements toxics.Toxic.
func (*hole) Pipe(stub *toxics.ToxicStub) {
	for input := stub.Input; ; {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-input:
			if chunk == nil {
				input = nil
			}
		}
	}
}

// Cleanup closes the connection, whose bytes are lost.
func (*hole) Cleanup(stub *toxics.ToxicStub) { stub.Close() }
