package store

import "time"

// Note says that there is a message that a user may have to be told of.
type Note struct {
	User         int64
	Conversation string
	MessageID    string
	// Seq is the message's position, From its author, At its time in Unix seconds.
	Seq, From, At int64
}

// Notification is what a user is to be told of one conversation.
type Notification struct {
	// Note is of the latest message.
	Note
	// Target is where to tell it, if it was told everywhere else; empty: everywhere.
	Target string
	// Count is how many messages there are since the last notification. The store subtracts those that were told.
	Count int
	// Attempts is how often it could not be told at the target.
	Attempts int
	// Due is when it is due, and after it was taken, until when nobody else takes it.
	Due time.Time
}
