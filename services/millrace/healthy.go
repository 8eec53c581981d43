package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"millrace/infra/config"
)

// healthyTimeout is less than the 3 s that the health check of an image gets.
const healthyTimeout = 2 * time.Second

func newHealthyCommand() *cobra.Command {
	var (
		address string
		alive   bool
	)
	cmd := &cobra.Command{
		Use:   "healthy",
		Short: "Ask a role on this machine whether it is ready",
		Long: `Ask a role's admin address whether it is ready. The exit code is 0 if it is, 1 if it is not or does not answer: the health
check of an image that holds nothing but millrace.`,
		Example: "  millrace healthy --admin-addr=127.0.0.1:9101",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" {
				address = os.Getenv(config.EnvName("admin-addr"))
			}
			path := "/readyz"
			if alive {
				path = "/healthz"
			}
			return askHealth(cmd.Context(), address, path)
		},
	}
	cmd.Flags().StringVar(&address, "admin-addr", "", "the role's admin address; without a host, this machine (default $MILLRACE_ADMIN_ADDR)")
	cmd.Flags().BoolVar(&alive, "alive", false, "ask only whether the process is alive (/healthz)")
	return cmd
}

// askHealth returns an error unless the response is 200.
func askHealth(ctx context.Context, address, path string) error {
	if address == "" {
		return errors.New("no address: set MILLRACE_ADMIN_ADDR or --admin-addr")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("MILLRACE_ADMIN_ADDR (--admin-addr): %q is no host:port", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // the process listens on all addresses
	}
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking %s: %w", address, err)
	}
	// The default transport would use a proxy from the environment.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking %s: %w", address, err)
	}
	defer func() { _ = response.Body.Close() }() // nothing of it is read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s answers %s", address, path, response.Status)
	}
	return nil
}
