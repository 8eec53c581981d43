package message

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/hook"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// reviewer is a hook that decides by a function of the content, and remembers what it was asked.
type reviewer struct {
	decide func(hook.Draft) hook.Verdict
	mu     sync.Mutex
	asked  [][]hook.Draft
}

func (r *reviewer) Review(_ context.Context, drafts []hook.Draft) ([]hook.Verdict, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, drafts)
	var verdicts []hook.Verdict
	for _, d := range drafts {
		verdicts = append(verdicts, r.decide(d))
	}
	return verdicts, nil
}

// calls returns the contents that the hook was asked about, by call.
func (r *reviewer) calls() (calls [][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, drafts := range r.asked {
		var contents []string
		for _, d := range drafts {
			contents = append(contents, d.Message.Content)
		}
		calls = append(calls, contents)
	}
	return calls
}

func as(r Reviewer, change ...func(*Hook)) Hook {
	h := Hook{Reviewer: r, Name: "test", Timeout: time.Second}
	for _, c := range change {
		c(&h)
	}
	return h
}

func rejectAll(hook.Draft) hook.Verdict { return hook.Verdict{Reject: "no"} }

func TestHookLetsPassReplacesTagsAndRejects(t *testing.T) {
	r := &reviewer{decide: func(d hook.Draft) hook.Verdict {
		switch d.Message.Content {
		case "b":
			return hook.Verdict{Content: "***", Decisions: events.Decisions{Tags: []string{"rude", "seen"}}}
		case "c":
			return hook.Verdict{Reject: "c is not wanted"}
		case "d":
			return hook.Verdict{Content: "d"}
		case "e":
			return hook.Verdict{Extra: events.Extra(`{"seen":true}`)}
		}
		return hook.Verdict{}
	}}
	n := newNodeOver(t, memory.NewBus(memory.Config{}), as(r))
	var tags, extras []string
	n.bus.instead = func(topic string, msgs ...*message.Message) error {
		for _, m := range msgs {
			tags = append(tags, m.Metadata.Get(events.TagsHeader))
			e, err := events.Decode(topic, events.Position{}, m.Payload)
			require.NoError(t, err)
			extras = append(extras, string(e.Message.Extra))
		}
		return n.bus.Bus.Publisher().Publish(topic, msgs...)
	}
	requests := direct("a", "b", "c", "d", "e")
	requests[0].Sender = &millracev1.Sender{User: 1, UserType: "vip", Region: "eu"}
	results := n.service.send(t.Context(), requests)

	require.Equal(t, []codes.Code{codes.OK, codes.OK, codes.FailedPrecondition, codes.OK, codes.OK}, codesOf(results))
	require.Equal(t, "c is not wanted", results[2].GetError())
	require.Equal(t, []string{"a", "***", "d", "e"}, contents(t, n))
	require.Equal(t, []string{"", "rude,seen", "", ""}, tags)
	require.Equal(t, []string{"", "", "", `{"seen":true}`}, extras)
	for i, result := range results {
		require.Equal(t, i == 1 || i == 4, result.GetSent().GetReplaced(), i)
	}
	require.Equal(t, events.MessageID(1, "u:1:2", "b"), results[1].GetSent().GetMessageId())
	require.Len(t, r.asked, 1)
	require.Equal(t, "vip", r.asked[0][0].UserType)
	require.Equal(t, "eu", r.asked[0][0].Region)
}

func TestAHookSeesWhatThoseOfLowerRankHaveLeft(t *testing.T) {
	first := &reviewer{decide: func(d hook.Draft) hook.Verdict {
		if d.Message.Content == "a" {
			return hook.Verdict{Reject: "no"}
		}
		return hook.Verdict{Content: strings.ToUpper(d.Message.Content), Decisions: events.Decisions{Tags: []string{"loud"}}}
	}}
	second := &reviewer{decide: func(d hook.Draft) hook.Verdict { return hook.Verdict{Content: d.Message.Content + "!"} }}
	n := newNodeOver(t, memory.NewBus(memory.Config{}),
		as(second, func(h *Hook) { h.Rank = 2 }), as(first, func(h *Hook) { h.Rank, h.Name = 1, "first" }))
	n.service.send(t.Context(), direct("a", "b"))
	require.Equal(t, [][]string{{"B"}}, second.calls())
	require.Equal(t, []string{"loud"}, second.asked[0][0].Tags)
	require.Equal(t, []string{"B!"}, contents(t, n))

	n.service.send(t.Context(), direct("a"))
	require.Len(t, second.calls(), 1, "nothing is left to ask about")
}

func TestBatchesOfAFrameAreReviewedWithOneCall(t *testing.T) {
	r := &reviewer{decide: func(d hook.Draft) hook.Verdict {
		if strings.HasPrefix(d.Message.Content, "bad") {
			return rejectAll(d)
		}
		return hook.Verdict{}
	}}
	n := newNodeOver(t, memory.NewBus(memory.Config{Partitions: 1}), as(r))
	stream := openBatches(t, n)
	frame := &millracev1.SendBatchesRequest{}
	for i, names := range [][]string{{"a", "bad1"}, {"bad2"}, {"b", "bad3", "c"}} {
		messages := direct(names...)
		for _, m := range messages {
			m.Sender = by(int64(i + 10))
		}
		frame.Batches = append(frame.Batches, &millracev1.SendBatch{Id: uint64(i), Messages: messages})
	}
	require.NoError(t, stream.Send(frame))
	require.Equal(t, map[uint64][]codes.Code{
		0: {codes.OK, codes.FailedPrecondition}, 1: {codes.FailedPrecondition},
		2: {codes.OK, codes.FailedPrecondition, codes.OK},
	}, collect(t, stream, 3))
	require.NoError(t, stream.CloseSend())
	require.Equal(t, [][]string{{"a", "bad1", "bad2", "b", "bad3", "c"}}, r.calls())
}

// broken is a hook that goes wrong in one way.
type broken func(ctx context.Context, drafts []hook.Draft) ([]hook.Verdict, error)

func (b broken) Review(ctx context.Context, drafts []hook.Draft) ([]hook.Verdict, error) {
	return b(ctx, drafts)
}

func hangs(ctx context.Context, _ []hook.Draft) ([]hook.Verdict, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestSendsDoAsTheHooksRuleSaysWhenItFails(t *testing.T) {
	for name, fails := range map[string]broken{
		"error":           func(context.Context, []hook.Draft) ([]hook.Verdict, error) { return nil, errors.New("away") },
		"panic":           func(context.Context, []hook.Draft) ([]hook.Verdict, error) { panic("bug") },
		"hangs":           hangs,
		"no verdicts":     func(context.Context, []hook.Draft) ([]hook.Verdict, error) { return nil, nil },
		"too many":        func(context.Context, []hook.Draft) ([]hook.Verdict, error) { return make([]hook.Verdict, 9), nil },
		"huge content":    always(hook.Verdict{Content: strings.Repeat("x", events.MaxContentBytes+1)}),
		"no text":         always(hook.Verdict{Content: "\xff"}),
		"extra no object": always(hook.Verdict{Extra: events.Extra("[1]")}),
		"huge extra":      always(hook.Verdict{Extra: events.Extra(`{"x":"` + strings.Repeat("x", events.MaxExtraBytes) + `"}`)}),
		"reason no text":  always(hook.Verdict{Reject: "\xff"}),
		"huge reason":     always(hook.Verdict{Reject: strings.Repeat("x", maxReason+1)}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, open := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					n := newNodeOver(t, memory.NewBus(memory.Config{}), as(fails, func(h *Hook) { h.FailOpen = open }))
					began := time.Now()
					results := n.service.send(t.Context(), direct("a", "b"))
					require.LessOrEqual(t, time.Since(began), time.Second)
					if open {
						require.Equal(t, []codes.Code{codes.OK, codes.OK}, codesOf(results))
						require.Equal(t, []string{"a", "b"}, contents(t, n))
						return
					}
					require.Equal(t, []codes.Code{codes.Unavailable, codes.Unavailable}, codesOf(results))
					require.Empty(t, contents(t, n))
				})
			}
		})
	}
}

func always(v hook.Verdict) broken {
	return func(_ context.Context, drafts []hook.Draft) ([]hook.Verdict, error) {
		return slices.Repeat([]hook.Verdict{v}, len(drafts)), nil
	}
}

func TestHooksTogetherTakeNoLongerThanTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(name string) Hook {
			return as(broken(hangs), func(h *Hook) { h.Name, h.FailOpen, h.Timeout = name, true, time.Second })
		}
		n := newNodeOver(t, memory.NewBus(memory.Config{}), slow("a"), slow("b"), slow("c"), slow("d"))
		began := time.Now()
		require.Equal(t, []codes.Code{codes.OK}, codesOf(n.service.send(t.Context(), direct("x"))))
		require.Equal(t, maxHooks, time.Since(began))
	})
}

func TestSendsGoOnAtFullSpeedOnceTheBreakerOfADeadHookIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNodeOver(t, memory.NewBus(memory.Config{}), as(broken(hangs), func(h *Hook) { h.FailOpen = true }))
		took := func() time.Duration {
			began := time.Now()
			require.Equal(t, []codes.Code{codes.OK}, codesOf(n.service.send(t.Context(), direct("x"))))
			return time.Since(began)
		}
		for range hookFailures {
			require.Equal(t, time.Second, took())
			n.forgetOriginals()
		}
		alone := n.service.hooks.alone.WithLabelValues("test")
		for range 100 {
			require.Zero(t, took())
			require.EqualValues(t, 1, testutil.ToFloat64(alone))
			n.forgetOriginals()
		}
		time.Sleep(hookPause + 1)
		require.Equal(t, time.Second, took(), "one call tries the hook again")
		n.forgetOriginals()
		require.Zero(t, took())
	})
}

func TestARepeatOfAnAcceptedMessageStaysAcceptedWhateverTheHooksSay(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, n *node){
		"remembered": func(*testing.T, *node) {},
		"stored":     func(t *testing.T, n *node) { n.keepAll(t); n.forgetOriginals() },
		"in the log": func(_ *testing.T, n *node) { n.forgetOriginals() },
		"in the log while the store is down": func(_ *testing.T, n *node) {
			n.forgetOriginals()
			n.store.down.Store(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			later := false
			r := &reviewer{decide: func(d hook.Draft) hook.Verdict {
				switch {
				case later:
					return rejectAll(d)
				case d.Message.Content == "rude":
					return hook.Verdict{Content: "***"}
				}
				return hook.Verdict{}
			}}
			n := newNodeOver(t, memory.NewBus(memory.Config{}), as(r))
			first := n.service.send(t.Context(), direct("fine", "rude"))
			later = true
			between(t, n)
			again := n.service.send(t.Context(), direct("fine", "new", "rude"))
			require.Equal(t, []codes.Code{codes.OK, codes.FailedPrecondition, codes.OK}, codesOf(again))
			for i, at := range []int{0, 2} {
				require.Equal(t, first[i].GetSent().GetMessageId(), again[at].GetSent().GetMessageId())
				require.Equal(t, first[i].GetSent().GetTimestamp(), again[at].GetSent().GetTimestamp())
				require.Equal(t, first[i].GetSent().GetReplaced(), again[at].GetSent().GetReplaced())
			}
			require.Equal(t, []string{"fine", "***"}, contents(t, n))
		})
	}
}

func TestARepeatIsFoundWhileTheLogHasLostWhatIsNotStored(t *testing.T) {
	r := &reviewer{decide: rejectAll}
	bus := memory.NewBus(memory.Config{})
	n := newNodeOver(t, bus, as(r))
	lost := n.publish(t, said(1, 2, "lost"))[0]
	m := said(1, 2, "a")
	m.Message.ClientMsgID, m.Message.MessageID = "a", events.MessageID(1, "u:1:2", "a")
	n.publish(t, m)
	bus.Trim(events.TopicMessages, lost)
	require.Equal(t, []codes.Code{codes.OK, codes.FailedPrecondition}, codesOf(n.service.send(t.Context(), direct("a", "b"))))
}

func TestARepeatIsReplacedAsTheFirstWasOnANodeThatKnowsThatFromTheStore(t *testing.T) {
	r := &reviewer{decide: func(hook.Draft) hook.Verdict { return hook.Verdict{Content: "***"} }}
	n := newNodeOver(t, memory.NewBus(memory.Config{}), as(r))
	n.service.originals.sent.add(events.MessageID(1, "u:1:2", "a"), original{sentAt: 5, stored: true})
	for range 2 {
		sent := n.service.send(t.Context(), direct("a"))[0].GetSent()
		require.EqualValues(t, 5, sent.GetTimestamp())
		require.True(t, sent.GetReplaced())
	}
	require.Len(t, r.calls(), 1, "then it is remembered")
}

func TestARejectedMessageThatMayBeARepeatIsUnavailableAndSoAreThoseAfterIt(t *testing.T) {
	r := &reviewer{decide: func(d hook.Draft) hook.Verdict {
		if d.Message.Content == "b" {
			return rejectAll(d)
		}
		return hook.Verdict{}
	}}
	n := newNodeOver(t, memory.NewBus(memory.Config{}), as(r))
	n.bus.endFails.Store(true)
	results := n.service.send(t.Context(), direct("a", "b", "c"))
	require.Equal(t, []codes.Code{codes.OK, codes.Unavailable, codes.Unavailable}, codesOf(results))
	n.bus.endFails.Store(false)
	require.Equal(t, []string{"a"}, contents(t, n))
}

func TestHooksReviewEdits(t *testing.T) {
	r := &reviewer{decide: func(d hook.Draft) hook.Verdict {
		switch {
		case !d.Edit:
			return hook.Verdict{}
		case d.Message.Content == "bad":
			return rejectAll(d)
		}
		return hook.Verdict{Content: d.Message.Content + "!", Decisions: events.Decisions{Routes: []string{"vip"}, Recall: "why"}}
	}}
	n := newNodeOver(t, memory.NewBus(memory.Config{}), as(r))
	headers := map[string]message.Metadata{} // by type
	n.bus.instead = func(topic string, msgs ...*message.Message) error {
		for _, m := range msgs {
			headers[m.Metadata.Get("type")] = m.Metadata
		}
		return n.bus.Bus.Publisher().Publish(topic, msgs...)
	}
	id := n.service.send(t.Context(), direct("a"))[0].GetSent().GetMessageId()
	edit := func(content, name string) error {
		_, err := n.EditMessage(t.Context(), &millracev1.EditMessageRequest{
			User: 1, Sender: &millracev1.Sender{UserType: "vip"}, Conversation: "u:1:2", MessageId: id, Content: content, ClientMsgId: name,
		})
		return err
	}
	requireCode(t, codes.FailedPrecondition, edit("bad", "1"))
	require.NoError(t, edit("good", "2"))
	require.NoError(t, edit("good", "2"), "a repeat")
	require.Equal(t, [][]string{{"a"}, {"bad"}, {"good"}}, r.calls())
	draft := r.asked[2][0]
	require.Equal(t, "vip", draft.UserType)
	require.Equal(t, id, draft.Message.MessageID)
	require.EqualValues(t, 2, draft.Message.To)
	for header, want := range map[string]string{events.RoutesHeader: "vip", events.RecallHeader: "why", "user_type": "vip"} {
		require.Equal(t, want, headers["message_edited"].Get(header))
		require.Empty(t, headers["new_message"].Get(header))
	}

	n.keepAll(t)
	history, err := n.History(t.Context(), &millracev1.HistoryRequest{User: 1, Conversation: "u:1:2"})
	require.NoError(t, err)
	require.Equal(t, "good!", history.GetMessages()[0].GetContent())
}

// Without hooks nothing about them may be done for a message.
func TestWithoutHooksNothingIsKeptForThem(t *testing.T) {
	n := newNode(t, memory.Config{})
	require.Nil(t, n.service.hooks)
	require.Nil(t, n.service.prepare(t.Context(), direct("a", "b")).messages)
}
