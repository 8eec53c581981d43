package mongo

import (
	"context"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/event"

	"millrace/infra/security"
)

// distrust ends what waits for a server once TLS to as many as the URI names has failed for good and none has answered.
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
