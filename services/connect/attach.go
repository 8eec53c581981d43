package connect

import (
	"context"
	"fmt"

	"github.com/gorilla/websocket"

	"millrace/infra/panics"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// keepAttached keeps the gateway attached to the push node until the context ends or the node is gone.
func (g *Gateway) keepAttached(ctx context.Context, node *cluster.Node) {
	g.apart.Add(1)
	defer g.apart.Add(-1)
	client := millracev1.NewPushServiceClient(node.Conn)
	node.KeepTrying(ctx, func() error {
		return containError(g.cfg.Panics, panics.Attach, func() error { return g.attach(ctx, node.Name, client) })
	},
		func(err error) { g.log.Warn("not attached to push node", "node", node.Name, "error", err) })
}

// attach runs one stream until it breaks.
func (g *Gateway) attach(ctx context.Context, node string, client millracev1.PushServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Attach(ctx)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	hello := &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Hello{Hello: &millracev1.Hello{Gateway: g.cfg.Name}}}
	if err := stream.Send(hello); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	s := g.hub.attach(node)
	defer g.hub.detach(s)
	g.apart.Add(-1)
	defer g.apart.Add(1)
	g.log.Info("attached to push node", "node", node)

	received := make(chan error, 1)
	go func() {
		defer cancel()
		received <- containError(g.cfg.Panics, panics.Attach, func() error { return g.hub.receive(s, stream) })
	}()
	sendErr := g.hub.transmit(ctx, s, stream)
	cancel()
	if err := <-received; err != nil {
		return err
	}
	return sendErr
}

func (h *hub) receive(s *stream, from millracev1.PushService_AttachClient) error {
	for {
		response, err := from.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		h.handle(s, response)
	}
}

func (h *hub) handle(s *stream, response *millracev1.AttachResponse) {
	h.cork()
	defer h.uncork()
	for _, span := range response.GetSpans() {
		h.span(s, span)
	}
	for _, presence := range response.GetPresences() {
		h.present(s, presence)
	}
	if response.GetAck() != nil {
		h.acknowledged(s, response.GetAck())
	}
	h.broadcast(s, response.GetBroadcasts())
	for _, signal := range response.GetSignals() {
		h.relayed(signal)
	}
	for _, question := range response.GetQuestions() {
		h.asked(s, question)
	}
}

// cork makes deliveries wait until uncork, so that a session gets all deliveries of a frame with one write.
func (h *hub) cork() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.corked++
}

func (h *hub) uncork() {
	h.mu.Lock()
	h.corked--
	unwritten := h.unwritten
	h.unwritten = nil
	h.mu.Unlock()
	for _, out := range unwritten {
		out.begin()
	}
}

// write queues a push, which may have a span, and, unless the hub is corked, begins to write it. The lock is held.
func (h *hub) write(out *outbox, push []byte, span *deliverSpan) {
	frame := outFrame{op: websocket.TextMessage, payload: push, span: span}
	switch {
	case h.corked == 0:
		out.put(frame)
	case out.hold(frame):
		h.unwritten = append(h.unwritten, out)
	}
}

func (h *hub) transmit(ctx context.Context, s *stream, to millracev1.PushService_AttachClient) error {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		for request := h.take(s); request != nil; request = h.take(s) {
			if err := to.Send(request); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
}
