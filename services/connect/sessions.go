package connect

import (
	"maps"
	"slices"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxAnswers is how many answers wait for one stream. What is asked meanwhile stays unanswered.
	maxAnswers         = 16
	disconnectedReason = "disconnected by the operator"
)

// asked queues the answer to a push node's question for sessions, and closes them if it says so. Sessions that are still
// connecting are left out, unless they are to be closed. What is not answered for is not closed.
func (h *hub) asked(s *stream, question *millracev1.SessionsQuestion) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(s.answers) >= maxAnswers || question.GetDisconnect() && question.GetUser() == 0 {
		return
	}
	answer := &millracev1.SessionsAnswer{Number: question.GetNumber(), Total: int32(len(h.sessions))}
	all := slices.Values(h.sessions)
	if question.GetUser() != 0 {
		all = maps.Keys(h.sessionsOf(question.GetUser()))
	}
	for sub := range all {
		switch {
		case question.GetDisconnect() && (question.GetDevice() != "" && sub.device != question.GetDevice() || sub.session.closing.Load()):
			continue
		case question.GetDisconnect():
			sub.session.close(closeDisconnected, disconnectedReason)
		case sub.established.IsZero():
			continue
		}
		if answer.More = len(answer.GetSessions()) >= int(question.GetLimit()); answer.GetMore() {
			if question.GetDisconnect() {
				continue
			}
			break
		}
		answer.Sessions = append(answer.Sessions, &millracev1.Session{
			Session: sub.id, User: sub.user, Device: sub.device, Since: sub.established.Unix(), QueuedBytes: int64(sub.session.out.waits()),
		})
	}
	s.answers = append(s.answers, answer)
	s.poke()
}
