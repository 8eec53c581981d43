package message

import (
	"context"
	"crypto/rand"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// SendWSMessage runs a send batch with one message.
func (s *Service) SendWSMessage(
	ctx context.Context, r *millracev1.SendWSMessageRequest,
) (*millracev1.SendWSMessageResponse, error) {
	result := s.send(ctx, []*millracev1.SendWSMessageRequest{r})[0]
	if result.GetCode() != 0 {
		return nil, status.Error(codes.Code(result.GetCode()), result.GetError())
	}
	return result.GetSent(), nil
}

// send publishes a run of one sender's messages to one conversation with one call, so that they keep their order. A message
// that is refused for its own fault holds up none after it. After a failure to publish, all later ones are refused, because
// they would overtake what the caller is going to repeat.
func (s *Service) send(ctx context.Context, requests []*millracev1.SendWSMessageRequest) []*millracev1.SendResult {
	prepared := s.prepare(ctx, requests)
	s.publishSends(ctx, prepared)
	return prepared.results
}

// sending is a run of sends on its way to the log.
type sending struct {
	requests []*millracev1.SendWSMessageRequest
	results  []*millracev1.SendResult // of those that are not refused, as if they were accepted
	records  []*message.Message       // of these
	places   []int                    // which results the records have
	messages []*events.Message        // of the records, if there are hooks
	spans    []sendSpan               // of the requests, if there is a tracer
}

// acceptedSend is the result of a send that is not refused.
type acceptedSend struct {
	whole millracev1.SendResult
	sent  millracev1.SendWSMessageResponse
}

func (a *acceptedSend) result(m *events.Message) *millracev1.SendResult {
	a.sent.MessageId, a.sent.Conversation, a.sent.Timestamp = m.MessageID, m.Conversation, m.Timestamp
	a.whole.Sent = &a.sent
	return &a.whole
}

// prepare checks the sends.
func (s *Service) prepare(ctx context.Context, requests []*millracev1.SendWSMessageRequest) *sending {
	p := &sending{
		requests: requests, results: make([]*millracev1.SendResult, len(requests)),
		records: make([]*message.Message, 0, len(requests)), places: make([]int, 0, len(requests)),
		spans: s.startSends(ctx, requests),
	}
	accepted := make([]acceptedSend, len(requests))
	var first *events.Message
	var verdict error
	for i, request := range requests {
		m, record, err := compose(request)
		if err != nil {
			p.results[i] = failed(err)
			continue
		}
		if first == nil {
			first, verdict = m, s.authorize(ctx, m)
		}
		switch {
		case m.From != first.From || m.Conversation != first.Conversation:
			p.results[i] = failed(refuse(codes.InvalidArgument, "a batch is of one sender and one conversation"))
		case verdict != nil:
			p.results[i] = failed(verdict)
		default:
			p.results[i] = accepted[i].result(m)
			p.records, p.places = append(p.records, record), append(p.places, i)
			if p.spans != nil {
				telemetry.Carry(p.spans[i], record)
			}
			if s.hooks != nil {
				p.messages = append(p.messages, m)
			}
		}
	}
	return p
}

// publishSends publishes what the hooks let pass of the runs with one call. The runs should all be in one partition, so that
// none waits for the partition of another.
func (s *Service) publishSends(ctx context.Context, runs ...*sending) {
	if s.tracer != nil {
		defer endSends(runs)
	}
	if s.hooks != nil {
		s.reviewSends(ctx, runs)
	}
	n := 0
	for _, p := range runs {
		n += len(p.records)
	}
	if n == 0 {
		return
	}
	records, keys := make([]*message.Message, 0, n), make([]store.MessageKey, 0, n)
	for _, p := range runs {
		records = append(records, p.records...)
		for _, at := range p.places {
			sent := p.results[at].GetSent()
			keys = append(keys, store.MessageKey{Conversation: sent.GetConversation(), MessageID: sent.GetMessageId()})
		}
	}
	s.originals.look(keys)
	accepted, err := s.publish(records...)
	for _, p := range runs {
		n := min(accepted, len(p.records))
		accepted -= n
		s.conclude(p, n, err)
	}
}

// conclude completes the results of a run of which so many records, counted from the first, were accepted.
func (s *Service) conclude(p *sending, accepted int, err error) {
	for _, at := range p.places[:accepted] {
		sent := p.results[at].GetSent()
		first := s.originals.note(sent.GetMessageId(), original{sentAt: sent.GetTimestamp(), replaced: sent.GetReplaced()})
		sent.Timestamp, sent.Replaced = first.sentAt, first.replaced
	}
	unsent := p.places[accepted:]
	if len(unsent) == 0 {
		return
	}
	request, sent := p.requests[unsent[0]], p.results[unsent[0]].GetSent()
	s.log.WarnContext(p.records[accepted].Context(), "publishing failed", "conversation", sent.GetConversation(), "user", request.GetSender().GetUser(),
		"messages", len(p.records), "accepted", accepted, events.CorrelationHeader, request.GetCorrelationId(), "error", err)
	for _, at := range unsent {
		p.results[at] = failed(err)
	}
}

// compose returns the message and its record. It draws an id if the sender has set none.
func compose(r *millracev1.SendWSMessageRequest) (*events.Message, *message.Message, error) {
	if err := checkContent(r.GetContent(), r.GetExtra()); err != nil {
		return nil, nil, err
	}
	now := time.Now().Unix()
	m := &events.Message{
		ClientMsgID: r.GetClientMsgId(), From: r.GetSender().GetUser(), To: r.GetTo(), GroupID: r.GetGroupId(),
		Content: r.GetContent(), MessageType: r.GetMessageType(), Timestamp: now,
		Extra: r.GetExtra(), ReplyTo: r.GetReplyTo(), Mentions: r.GetMentions(), Authorized: r.GetGroupId() != 0,
	}
	if m.MessageType == 0 {
		m.MessageType = 1
	}
	if m.ClientMsgID == "" {
		m.ClientMsgID = rand.Text()
	}
	if !utf8.ValidString(m.ClientMsgID) {
		return nil, nil, refuse(codes.InvalidArgument, "client_msg_id is not UTF-8")
	}
	m.Conversation = events.Direct(m.From, m.To)
	if m.GroupID != 0 {
		m.Conversation = events.Group(m.GroupID)
	}
	m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
	e := &events.Event{Type: events.NewMessage, Message: m, Timestamp: now}
	record, err := newRecord(e, r.GetSender(), r.GetCorrelationId())
	return m, record, err
}

// checkContent returns the error of [events.ValidateContent], and for content or extra that is too long one with a code of its
// own.
func checkContent(content string, extra []byte) error {
	switch {
	case len(content) > events.MaxContentBytes:
		return refuse(codes.OutOfRange, "content of %d bytes, more than %d", len(content), events.MaxContentBytes)
	case len(extra) > events.MaxExtraBytes:
		return refuse(codes.OutOfRange, "extra of %d bytes, more than %d", len(extra), events.MaxExtraBytes)
	case !utf8.ValidString(content):
		return refuse(codes.InvalidArgument, "content is not UTF-8")
	}
	return events.ValidateContent(content)
}

// authorize returns nil if the sender may write: to a user whoever is not blocked, and to a group the members who are not
// muted. A mute or a block that the log has before a message which was accepted already does not undo that.
func (s *Service) authorize(ctx context.Context, m *events.Message) error {
	if m.GroupID == 0 {
		return s.accepts(ctx, m.To, m.From)
	}
	return s.members.mayWrite(ctx, m.From, m.GroupID)
}

func failed(err error) *millracev1.SendResult {
	return &millracev1.SendResult{Code: int32(codeOf(err)), Error: textOf(err)}
}
