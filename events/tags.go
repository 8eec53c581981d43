package events

import "strings"

// TagsHeader is the header of a record that holds the tags which it got when it was accepted, with commas between them.
const TagsHeader = "tags"

// JoinTags returns the value of the header.
func JoinTags(tags []string) string { return strings.Join(tags, ",") }

// SplitTags returns the tags in the value of the header.
func SplitTags(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}
