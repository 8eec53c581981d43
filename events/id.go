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
	id := messageID(from, conversation, clientMsgID)
	return string(id[:])
}

func messageID(from int64, conversation, clientMsgID string) id {
	var sender [20]byte
	return hash("message", string(strconv.AppendInt(sender[:0], from, 10)), conversation, clientMsgID)
}

// EventID returns the id of an event that is no message. The parts must tell the event from all others of its type.
func EventID(t Type, parts ...string) string {
	id := hash(append([]string{string(t)}, parts...)...)
	return string(id[:])
}

// recordID returns the id of a record whose producer set none. It is the same for every consumer.
func recordID(topic string, pos Position) string {
	id := hash("record", topic, pos.String())
	return string(id[:])
}

// id is 128 bits in base64.
type id [22]byte

// hash returns the first 128 bits of SHA-256 over the parts and their lengths.
func hash(parts ...string) (short id) {
	var room [256]byte // for most ids
	text := room[:0]
	for _, p := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(p)))
		text = append(text, p...)
	}
	sum := sha256.Sum256(text)
	base64.RawURLEncoding.Encode(short[:], sum[:16])
	return short
}

// OwnID reports whether the message's id follows from its sender, conversation and client_msg_id, or from its position on the
// topic. No message of another user can have such an id.
func (r *Record) OwnID(topic string) bool {
	m := r.Message
	if m.ClientMsgID != "" {
		own := messageID(m.From, m.Conversation, m.ClientMsgID)
		return m.MessageID == string(own[:])
	}
	return m.MessageID == recordID(topic, r.Position)
}
