package proof

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// diary collects what happened to a client, for people who look into a failure.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return "\n\t" + strings.Join(d.entries, "\n\t")
}
