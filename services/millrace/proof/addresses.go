package proof

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// firstPortEnv names the first of the 10,000 ports for processes. Tests that run at the same time need different ones.
const firstPortEnv = "MILLRACE_TEST_FIRST_PORT"

// portsTried counts the ports that were tried, over all tests.
var portsTried atomic.Int64

// FreeAddresses returns loopback addresses that nobody listens on. The ports lie below those that the system uses for
// outgoing connections, and none is returned again soon. So nobody takes the address of a process that is down or not
// listening yet.
func FreeAddresses(t testing.TB, n int) []string {
	t.Helper()
	const ports = 10_000
	first := int64(20_000)
	if value := os.Getenv(firstPortEnv); value != "" {
		var err error
		first, err = strconv.ParseInt(value, 10, 32)
		require.NoError(t, err)
	}
	start := int64(os.Getpid()) * 100
	addresses := make([]string, 0, n)
	for tries := 0; len(addresses) < n; tries++ {
		require.Less(t, tries, ports, "no free address")
		address := fmt.Sprintf("127.0.0.1:%d", first+(start+portsTried.Add(1))%ports)
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }()
		addresses = append(addresses, address)
	}
	return addresses
}
