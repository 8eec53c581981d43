package connect

import (
	"maps"
	"slices"

	millracev1 "millrace/proto/millrace/v1"
)

// maxAnswers is how many answers wait for one stream. What is asked meanwhile stays unanswered.
const maxAnswers = 16

// asked queues the answer to a push node's question for sessions. Sessions that are still connecting are left out.
func (h *hub) asked(s *stream, question *millracev1.SessionsQuestion) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(s.answers) >= maxAnswers {
		return
	}
	answer := &millracev1.SessionsAnswer{Number: question.GetNumber(), Total: int32(len(h.sessions))}
	all := slices.Values(h.sessions)
	if question.GetUser() != 0 {
		all = maps.Keys(h.sessionsOf(question.GetUser()))
	}
	for sub := range all {
		if sub.established.IsZero() {
			continue
		}
		if answer.More = len(answer.GetSessions()) >= int(question.GetLimit()); answer.GetMore() {
			break
		}
		answer.Sessions = append(answer.Sessions, &millracev1.Session{
			Session: sub.id, User: sub.user, Device: sub.device, Since: sub.established.Unix(), QueuedBytes: int64(sub.session.out.waits()),
		})
	}
	s.answers = append(s.answers, answer)
	s.poke()
}
