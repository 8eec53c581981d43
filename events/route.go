package events

import (
	"fmt"
	"regexp"
	"strings"
)

// A route is a topic beside message-events that has copies of some of its records, for consumers that want only those. A copy
// has the key, the value and the headers of its original, and one header more. Its event has the same ids and, as every record
// of the route's topic, a position of its own there.

// OriginHeader is the header of a copy, on a route's topic or on group-events, that holds the position of its original on message-events.
const OriginHeader = "millrace_origin"

// RouteTopic returns the name of the topic that has the copies of a route.
func RouteTopic(route string) string { return TopicMessages + "." + route }

var routeName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// CheckRoute returns an error for a name that no route can have.
func CheckRoute(route string) error {
	switch {
	case !routeName.MatchString(route):
		return fmt.Errorf("route %.80q: want 1 to 64 of a-z, 0-9, - and _", route)
	case RouteTopic(route) == PoisonTopic(TopicMessages):
		return fmt.Errorf("route %q: its topic would be the poison queue", route)
	}
	return nil
}

// IsRoute reports whether the topic has the copies of a route.
func IsRoute(topic string) bool {
	route, further := strings.CutPrefix(topic, RouteTopic(""))
	return further && CheckRoute(route) == nil
}

// Original returns the topic and the position that a record is to be decoded with: those of its original if it is a copy, else
// its own. So a copy has the ids of its original. The error is an [InvalidError].
func Original(topic string, pos Position, headers interface{ Get(name string) string }) (string, Position, error) {
	if !IsRoute(topic) && topic != TopicGroups {
		return topic, pos, nil
	}
	origin := headers.Get(OriginHeader)
	if origin == "" {
		return topic, pos, nil
	}
	at, err := ParsePosition(origin)
	if err != nil {
		return topic, pos, invalid("header %s: %v", OriginHeader, err)
	}
	if at.Partition != pos.Partition || at.Seq < 1 {
		return topic, pos, invalid("header %s: no original of a record in partition %d lies at %s", OriginHeader, pos.Partition, origin)
	}
	return TopicMessages, at, nil
}
