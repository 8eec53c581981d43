package mongo

import (
	"context"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/event"

	"millrace/infra/security"
)

// distrust ends a context when TLS has failed for good with as many servers as the URI names and none has responded.
func distrust(hosts int, end context.CancelCauseFunc) *event.ServerMonitor {
	var mu sync.Mutex
	answered, failed := false, map[string]struct{}{}
	return &event.ServerMonitor{
		ServerHeartbeatSucceeded: func(*event.ServerHeartbeatSucceededEvent) {
			mu.Lock()
			defer mu.Unlock()
			answered = true
		},
		ServerHeartbeatFailed: func(e *event.ServerHeartbeatFailedEvent) {
			mu.Lock()
			defer mu.Unlock()
			fault := security.TLSFault(e.Failure)
			if fault == nil {
				return
			}
			host, _, _ := strings.Cut(e.ConnectionID, "[")
			failed[host] = struct{}{}
			if !answered && len(failed) == hosts {
				end(fault)
			}
		},
	}
}
