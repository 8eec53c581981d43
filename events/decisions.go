package events

import (
	"slices"
	"strings"
)

// The headers in which what rules have decided travels with a record. All but the recall hold names with commas between them.
const (
	TagsHeader = "tags"
	// RoutesHeader names the routes to whose topics the record is copied; see [RouteTopic].
	RoutesHeader = "routes"
	// NotifyHeader names those who want to be notified of the record, by webhooks.
	NotifyHeader = "notify"
	// RecallHeader holds the reason why moderation is to recall the message.
	RecallHeader = "recall"
)

// The headers that hold the claims of the sender's token. A record lacks those that the token lacks.
const (
	UserTypeHeader = "user_type"
	RegionHeader   = "region"
)

// Decisions are what rules have decided on a message that is accepted.
type Decisions struct {
	Tags, Routes, Notify []string
	// Recall is the reason why the message is to be recalled, or empty.
	Recall string
}

// Add adds decisions that were made later. Of two reasons for a recall the first stays.
func (d *Decisions) Add(later Decisions) {
	d.Tags, d.Routes, d.Notify = union(d.Tags, later.Tags), union(d.Routes, later.Routes), union(d.Notify, later.Notify)
	if d.Recall == "" {
		d.Recall = later.Recall
	}
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
		{RecallHeader, d.Recall},
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
