package proof

import (
	"strings"

	"millrace/services/millrace/proof/oracle"
)

// moderation says what the rules of [writeRules] recall of a talker's messages.
type moderation struct {
	// echoed holds the conversations in which the talker has said its echo, and whether the log is sure to have that still.
	echoed map[string]bool
}

// expects notes in the journal whether moderation may recall the message, which is about to be sent. It reports whether it must.
func (m *moderation) expects(j *oracle.Journal, conversation, messageID, content string) (must bool) {
	may := strings.HasSuffix(content, regrettedWord)
	must = may
	if strings.HasSuffix(content, echoWord) {
		must, may = m.echoed[conversation], false
		if _, said := m.echoed[conversation]; said {
			may = true
		}
		if m.echoed == nil {
			m.echoed = make(map[string]bool)
		}
		m.echoed[conversation] = true
	}
	if may {
		j.Asked(conversation, oracle.Change{MessageID: messageID, Recalled: true})
	}
	return must
}

// doubt says that the log has perhaps lost what the talker has said.
func (m *moderation) doubt() {
	for conversation := range m.echoed {
		m.echoed[conversation] = false
	}
}
