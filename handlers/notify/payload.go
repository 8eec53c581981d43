package notify

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"millrace/handlers/webhook"
)

// maxPreview is how many bytes of the content a notification has at most. All of it must fit into the 4,096 bytes that a push
// service takes (RFC 8030, section 7.2), also where JSON needs six bytes for one.
const maxPreview = 400

// payload is what a browser's service worker gets, and the data of a webhook.
type payload struct {
	Type         string `json:"type,omitempty"` // "message" or "test", for browsers
	User         int64  `json:"user,omitempty"` // for webhooks
	Conversation string `json:"conversation,omitempty"`
	Count        int    `json:"count,omitempty"`
	// The others are of the latest message.
	MessageID   string `json:"message_id,omitempty"`
	Seq         int64  `json:"seq,omitempty"`
	From        int64  `json:"from,omitempty"`
	Timestamp   int64  `json:"timestamp,omitempty"`
	MessageType int32  `json:"message_type,omitempty"`
	Content     string `json:"content,omitempty"`
}

// payloadOf returns what is told of the notification. The message is nil if its content is nobody's business.
func payloadOf(x *Notification, m *Message) payload {
	p := payload{Conversation: x.Conversation, Count: x.Count, MessageID: x.MessageID, Seq: x.Seq, From: x.From, Timestamp: x.At}
	if m != nil && !m.Recalled {
		p.MessageType, p.Content = m.Type, beginning(m.Content)
	}
	return p
}

// beginning returns as many whole characters as there is room for.
func beginning(content string) string {
	if len(content) <= maxPreview {
		return content
	}
	end := maxPreview
	for !utf8.RuneStart(content[end]) {
		end--
	}
	return content[:end] + "…"
}

// forBrowser returns the payload as a browser gets it.
func (p *payload) forBrowser(kind string) ([]byte, error) {
	typed := *p
	typed.Type = kind
	return json.Marshal(typed)
}

// forWebhook returns the body of a request to an endpoint.
func (p *payload) forWebhook(user int64) ([]byte, error) {
	of := *p
	of.User = user
	return webhook.Envelope("notification", time.Unix(p.Timestamp, 0), of)
}

// id returns what is the same for every repeat of a notification.
func (x *Notification) id() string {
	return "notification_" + hashOf(strconv.FormatInt(x.User, 10)+" "+x.Conversation+" "+strconv.FormatInt(x.Seq, 10))
}

// topic returns what tells a push service that a notification replaces an older one of the conversation that it still has
// (RFC 8030, section 5.4).
func (x *Notification) topic() string { return hashOf(x.Conversation) }

// hashOf returns 32 characters of base64url.
func hashOf(s string) string {
	hash := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(hash[:24])
}
