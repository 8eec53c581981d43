package events

import (
	"slices"
	"strings"
)

// The headers in which what rules have decided travels with a record. They hold names with commas between them.
const (
	TagsHeader = "tags"
	// RoutesHeader names the routes to whose topics the record is copied; see [RouteTopic].
	RoutesHeader = "routes"
	// NotifyHeader names those who want to be notified of the record.
	NotifyHeader = "notify"
)

// Decisions are what rules have decided on a message that is accepted.
type Decisions struct{ Tags, Routes, Notify []string }

// Add adds decisions that were made later.
func (d *Decisions) Add(later Decisions) {
	d.Tags, d.Routes, d.Notify = union(d.Tags, later.Tags), union(d.Routes, later.Routes), union(d.Notify, later.Notify)
}

func union(names, more []string) []string {
	for _, name := range more {
		if !slices.Contains(names, name) {
			names = append(slices.Clip(names), name)
		}
	}
	return names
}

// SetHeaders calls set for each header that the decisions have.
func (d *Decisions) SetHeaders(set func(name, value string)) {
	for _, header := range []struct{ name, value string }{
		{TagsHeader, JoinNames(d.Tags)},
		{RoutesHeader, JoinNames(d.Routes)},
		{NotifyHeader, JoinNames(d.Notify)},
	} {
		if header.value != "" {
			set(header.name, header.value)
		}
	}
}

// JoinNames returns the value of a header that holds the names.
func JoinNames(names []string) string { return strings.Join(names, ",") }

// SplitNames returns the names in the value of a header.
func SplitNames(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}
