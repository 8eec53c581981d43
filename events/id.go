package events

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
)

// MessageID returns the id of the message that a user sends with the client_msg_id. It is the same on every server, however
// often the message is sent.
func MessageID(from int64, conversation, clientMsgID string) string {
	return hash("message", strconv.FormatInt(from, 10), conversation, clientMsgID)
}

// EventID returns the id of an event that is no message. The parts must tell the event from all others of its type.
func EventID(t Type, parts ...string) string {
	return hash(append([]string{string(t)}, parts...)...)
}

// recordID returns the id of a record whose producer set none. It is the same for every consumer.
func recordID(topic string, pos Position) string {
	return hash("record", topic, pos.String())
}

// hash returns 128 bits of SHA-256 over the parts and their lengths, as 22 letters.
func hash(parts ...string) string {
	h := sha256.New()
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// OwnID reports whether the message's id follows from its sender, conversation and client_msg_id, or from its position on the
// topic. No message of another user can have such an id.
func (r *Record) OwnID(topic string) bool {
	m := r.Message
	if m.ClientMsgID != "" {
		return m.MessageID == MessageID(m.From, m.Conversation, m.ClientMsgID)
	}
	return m.MessageID == recordID(topic, r.Position)
}
