package store

import (
	"slices"
	"time"

	"millrace/events"
)

// Span is a length of time for which messages are counted together. Buckets begin at whole multiples of it in UTC.
type Span struct {
	Name    string
	Seconds int64
	// Keep is how long its buckets are kept. It bounds what counting takes.
	Keep time.Duration
}

// Spans returns the spans, the shortest first.
func Spans() []Span {
	const day = 24 * time.Hour
	return []Span{{"minute", 60, day}, {"hour", 3600, 14 * day}, {"day", 86400, 400 * day}}
}

// SpanNumber returns the number by which calls name the span, which is its place in [Spans] from 1 on, or 0 if there is none of
// the name.
func SpanNumber(name string) int {
	return slices.IndexFunc(Spans(), func(s Span) bool { return s.Name == name }) + 1
}

// Oldest returns the start of the oldest bucket that is kept.
func (s Span) Oldest(now time.Time) int64 { return s.Start(now.Add(-s.Keep).Unix()) }

// Start returns the start of the bucket that the time, in Unix seconds, lies in.
func (s Span) Start(at int64) int64 { return at - at%s.Seconds }

// Bucket is what was counted in one span.
type Bucket struct {
	Start    int64 `json:"start"` // Unix seconds
	Messages int64 `json:"messages"`
	// Users and Conversations count those with a message, each once.
	Users         int64 `json:"users"`
	Conversations int64 `json:"conversations"`
	// Within says how many of the messages were counted within 2, 5 and 60 s. See [Entry].
	Within [3]int64 `json:"within"`
}

// Busy is a conversation with the number of its messages.
type Busy struct {
	Conversation string `json:"conversation"`
	Messages     int64  `json:"messages"`
}

// Entry is a message in one of the buckets that it counts in.
type Entry struct {
	Span, Start int64
	*events.Record
	// Within has 1 where the message is counted within 2, 5 and 60 s after it was accepted, else 0. Its timestamp is in whole
	// seconds, so up to a second of that may not have passed.
	Within [3]int64
}

// Entries returns the entries of the messages among the records. Buckets that are no longer kept have none, and a message from
// the future counts now.
func Entries(records []events.Record, now time.Time) []Entry {
	var entries []Entry
	for i := range records {
		r := &records[i]
		if r.Type != events.NewMessage {
			continue
		}
		at := min(r.Message.Timestamp, now.Unix())
		var within [3]int64
		for j, seconds := range []int64{2, 5, 60} {
			if now.Unix()-at <= seconds {
				within[j] = 1
			}
		}
		for _, s := range Spans() {
			if start := s.Start(at); start >= s.Oldest(now) {
				entries = append(entries, Entry{s.Seconds, start, r, within})
			}
		}
	}
	return entries
}
