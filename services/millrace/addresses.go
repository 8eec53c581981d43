package main

import (
	"log/slog"
	"strings"
	"sync"
)

// addresses are where the parts of the process listen: with port 0 in a setting, the system has chosen. It is safe for
// concurrent use.
type addresses struct {
	log *slog.Logger

	mu sync.Mutex
	of map[string]string
}

// The parts that listen.
const (
	partGateway = "gateway"
	partGRPC    = "gRPC"
	partAPI     = "API"
	partBroker  = "broker"
	partAdmin   = "admin"
)

func newAddresses(log *slog.Logger) *addresses { return &addresses{log: log, of: map[string]string{}} }

// set notes where the part listens, and tells it.
func (a *addresses) set(part, address string) {
	a.log.Info("listening", "part", part, "address", address)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of[part] = address
}

// get returns where the part listens, or nothing if it does not.
func (a *addresses) get(part string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[part]
}

// dialled returns where a client on this machine reaches the part, or nothing if it does not listen.
func (a *addresses) dialled(part string) string {
	address := a.get(part)
	for _, everywhere := range []string{"[::]:", "0.0.0.0:"} {
		if port, ok := strings.CutPrefix(address, everywhere); ok {
			return "127.0.0.1:" + port
		}
	}
	return address
}
