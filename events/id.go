package events

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
)

// MessageID is the id of the message that a user sends with the client_msg_id: the same on every server, however often
// it is sent.
func MessageID(from int64, conversation, clientMsgID string) string {
	return hash("message", strconv.FormatInt(from, 10), conversation, clientMsgID)
}

// EventID is the id of an event other than a message, made from what tells it from all others of its type.
func EventID(t Type, parts ...string) string {
	return hash(append([]string{string(t)}, parts...)...)
}

// recordID is the id of a record whose producer gave none: the same for every consumer.
func recordID(topic string, pos Position) string {
	return hash("record", topic, pos.String())
}

// hash is 128 bits of SHA-256 over the parts and their lengths, in 22 letters.
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

// OwnID reports whether the message's id is the one that its sender, its conversation and its client_msg_id give, or its
// position on the topic: then no other user's message can have it.
func (r *Record) OwnID(topic string) bool {
	m := r.Message
	if m.ClientMsgID != "" {
		return m.MessageID == MessageID(m.From, m.Conversation, m.ClientMsgID)
	}
	return m.MessageID == recordID(topic, r.Position)
}
