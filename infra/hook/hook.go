// Package hook defines what is asked before a message is accepted, and has the hook that asks over HTTP. The message service
// runs the hooks; see its file hooks.go.
package hook

import "millrace/events"

// Draft is what a user wants to have accepted: a message, or the new content of one.
type Draft struct {
	// Message is as the hooks before have left it. A hook must not change it.
	Message *events.Message
	// Edit reports that the message was accepted before, and that only its content and extra are new.
	Edit bool
	// UserType and Region are those of the sender, from its token.
	UserType string
	Region   string
	// Tags are those that the hooks before have added.
	Tags []string
}

// Verdict is what a hook decides on a draft. The zero value lets it pass as it is.
type Verdict struct {
	// Reject refuses the draft unless it is empty. It is the reason that the sender is given.
	Reject string
	// Content and Extra take the place of what the draft has, unless they are empty.
	Content string
	Extra   events.Extra
	// Decisions travel with the record.
	events.Decisions
}
