package poison

import (
	"slices"
	"strings"
	"time"
)

// Filter selects entries. The zero value selects all that were not replayed.
type Filter struct {
	IDs     []string // any of these; empty: all
	Handler string
	// Reason is text that the reason must contain.
	Reason string
	// Since and Until bound the time of the entry, both included. They exclude an entry whose time is not known.
	Since, Until time.Time
	// Replayed selects also entries that were replayed.
	Replayed bool
	// NoReplay names the handlers that cannot handle a replay, and why. Their entries are selected, but [Queue.Replay]
	// refuses them.
	NoReplay map[string]string
}

// Select returns the entries that the filter selects, in their order.
func (f *Filter) Select(entries []*Entry) []*Entry {
	var selected []*Entry
	for _, e := range entries {
		if f.selects(e) {
			selected = append(selected, e)
		}
	}
	return selected
}

func (f *Filter) selects(e *Entry) bool {
	switch {
	case e.Replayed && !f.Replayed:
	case len(f.IDs) > 0 && !slices.Contains(f.IDs, e.ID):
	case f.Handler != "" && f.Handler != e.Handler:
	case !strings.Contains(e.Reason, f.Reason):
	case !f.Since.IsZero() && e.Time.Before(f.Since):
	case !f.Until.IsZero() && (e.Time.IsZero() || e.Time.After(f.Until)):
	default:
		return true
	}
	return false
}
