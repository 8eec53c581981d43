package events

import (
	"strconv"
	"strings"
)

// maxName is how many bytes the longest name has.
const maxName = len("u") + 2*len(":-9223372036854775808")

// Direct returns the name of the conversation between two users, or of a user with itself. It is small enough for the compiler to
// put it where it is called, and a name that is only compared or hashed there is not allocated.
func Direct(a, b int64) string {
	var name [maxName]byte
	return string(appendDirect(name[:0], a, b))
}

func appendDirect(to []byte, a, b int64) []byte {
	to = strconv.AppendInt(append(to, "u:"...), min(a, b), 10)
	return strconv.AppendInt(append(to, ':'), max(a, b), 10)
}

// Group returns the name of a group's conversation, which is also the channel of its members.
func Group(id int64) string { return numbered("g:", id) }

// UserChannel returns the channel of everything that concerns one user alone.
func UserChannel(user int64) string { return numbered("u:", user) }

func numbered(kind string, id int64) string {
	var name [maxName]byte
	return string(strconv.AppendInt(append(name[:0], kind...), id, 10))
}

// Conversation is a conversation's name taken apart: either two users (Low ≤ High) or a group.
type Conversation struct {
	Low, High int64
	GroupID   int64
}

// ParseConversation reads a conversation's name. Each conversation has one canonical name; any other form is an error.
func ParseConversation(s string) (Conversation, error) {
	var c Conversation
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "g":
		c.GroupID, _ = strconv.ParseInt(rest, 10, 64)
		if validID(c.GroupID) && Group(c.GroupID) == s {
			return c, nil
		}
	case "u":
		low, high, _ := strings.Cut(rest, ":")
		c.Low, _ = strconv.ParseInt(low, 10, 64)
		c.High, _ = strconv.ParseInt(high, 10, 64)
		if validID(c.Low) && validID(c.High) && Direct(c.Low, c.High) == s {
			return c, nil
		}
	}
	return Conversation{}, invalid("conversation %.80q", s)
}

// Has reports whether the conversation is a direct one and the user is one of its two users.
func (c Conversation) Has(user int64) bool {
	return c.GroupID == 0 && (user == c.Low || user == c.High)
}

// mayHave reports whether the user may take part in the conversation: in a direct one only its two users may. Who belongs to a
// group does not show here.
func (c Conversation) mayHave(user int64) bool {
	return validID(user) && (c.GroupID != 0 || c.Has(user))
}

// Channels returns the channels on which everything that happens in the conversation is delivered: those of both users, or
// the group's.
func (c Conversation) Channels() []string {
	switch {
	case c.GroupID != 0:
		return []string{Group(c.GroupID)}
	case c.Low == c.High:
		return []string{UserChannel(c.Low)}
	}
	return []string{UserChannel(c.Low), UserChannel(c.High)}
}
