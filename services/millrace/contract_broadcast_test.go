package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/broadcast"
	"millrace/handlers/handlertest"
	"millrace/handlers/push"
	millracev1 "millrace/proto/millrace/v1"
)

func openNotice(t *testing.T) handlertest.Subject {
	return (&hearer{heard: map[string]bool{}}).over(t, broadcast.NewNotice, func(seq int64) events.Event {
		id := fmt.Sprint(seq)
		for n := 1; events.Partition(id, events.DefaultPartitions) != handlertest.Partition(); n++ {
			id = fmt.Sprint(seq, " ", n)
		}
		return events.Event{
			Type: events.SystemNotice, EventID: events.EventID(events.SystemNotice, id), NoticeID: id, Content: fmt.Sprint(seq), Timestamp: 1,
		}
	})
}

func openRevocation(t *testing.T) handlertest.Subject {
	return (&hearer{heard: map[string]bool{}}).over(t, broadcast.NewRevocation, func(seq int64) events.Event {
		return events.Event{Type: events.TokensRevoked, EventID: fmt.Sprint(seq), User: userOf(seq), Before: 1, Timestamp: 1}
	})
}

// hearer is a gateway that acts on each broadcast once.
type hearer struct {
	mu    sync.Mutex
	heard map[string]bool
	done  []int64
}

// over attaches the hearer to a push node of its own.
func (g *hearer) over(t *testing.T, handler func(broadcast.Broadcaster) events.Handler, record func(seq int64) events.Event) handlertest.Subject {
	t.Helper()
	hub, stream, end := attachToHub(t, push.Options{}, nil)
	response, err := stream.Recv()
	for ; response.GetAck() == nil; response, err = stream.Recv() {
		require.NoError(t, err)
	}
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				return // the node has stopped
			}
			for _, b := range response.GetBroadcasts() {
				g.hear(t, b)
				_ = stream.Send(&millracev1.AttachRequest{Kind: &millracev1.AttachRequest_BroadcastAck{BroadcastAck: b.GetNumber()}})
			}
		}
	})
	t.Cleanup(func() {
		end()
		hearing.Wait()
	})
	return handlertest.Subject{
		Handler: handler(hub), Record: record,
		Done: func(*testing.T) []int64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			return slices.Clone(g.done)
		},
		TakeOver: func(t *testing.T) handlertest.Subject {
			end()
			return g.over(t, handler, record)
		},
	}
}

func (g *hearer) hear(t *testing.T, b *millracev1.Broadcast) {
	var id string
	var seq int64
	switch kind := b.GetKind().(type) {
	case *millracev1.Broadcast_Notice:
		id = kind.Notice.GetNoticeId()
		_, err := fmt.Sscan(id, &seq)
		assert.NoError(t, err)
	case *millracev1.Broadcast_TokensRevoked:
		id, seq = fmt.Sprint(kind.TokensRevoked), kind.TokensRevoked.GetUser()/usersApart
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.heard[id] {
		g.heard[id] = true
		g.done = append(g.done, seq)
	}
}
