package events

// Call is a call of the API for backends by a key that permits everything, as it is told to who audits operators. It never has
// the key's secret, nor the content of a message.
type Call struct {
	// Key is the name of the key.
	Key string `json:"key"`
	// Method is the name of the call, such as /millrace.api.v1.OperatorService/RevokeTokens or GET /v1/events.
	Method string `json:"method"`
	// Target is what the call is about, such as a user or a conversation, by the names of its parameters.
	Target map[string]string `json:"target,omitempty"`
}

// The limits of what a [Call] may carry.
const (
	MaxCallNameBytes   = 256 // of the key, of the method, and of the name of a parameter
	MaxCallTargets     = 64
	MaxCallTargetBytes = 4 << 10 // of the value of a parameter
)

func (e *Event) validateCall() error {
	c := e.Call
	switch {
	case c == nil:
		return invalid("no call")
	case c.Key == "" || len(c.Key) > MaxCallNameBytes:
		return invalid("call: key of %d bytes", len(c.Key))
	case c.Method == "" || len(c.Method) > MaxCallNameBytes:
		return invalid("call: method of %d bytes", len(c.Method))
	case len(c.Target) > MaxCallTargets:
		return invalid("call: %d parameters", len(c.Target))
	}
	for name, value := range c.Target {
		if name == "" || len(name) > MaxCallNameBytes || len(value) > MaxCallTargetBytes {
			return invalid("call: parameter %.80q of %d bytes", name, len(value))
		}
	}
	return nil
}
