package push

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

type attachStream = grpc.BidiStreamingServer[millracev1.AttachRequest, millracev1.AttachResponse]

// Attach serves one gateway until the gateway leaves, falls behind (RESOURCE_EXHAUSTED) or the hub stops (UNAVAILABLE).
func (h *Hub) Attach(stream attachStream) error {
	q := newQueue(h.opts)
	g := newGateway(q)
	// Attach must return in order to break a Send that waits for the gateway, so both goroutines may outlive it. The hub
	// waits for them.
	receive := func() error { return h.receive(g, stream) }
	transmit := func() error { return send(q, stream) }
	if !h.spawn(func() { q.end(h.contained(receive)) }) || !h.spawn(func() { q.end(h.contained(transmit)) }) {
		q.end(errStopping())
	}
	select {
	case <-q.ended:
	case <-h.stop:
		q.end(errStopping())
	}
	h.routes.detach(g)
	h.broadcasts.detach(q)
	return q.cause()
}

// contained runs f, and breaks the stream of the gateway that f works for if f panics. The gateway then attaches again.
func (h *Hub) contained(f func() error) (err error) {
	if panicked := h.opts.Contain(func() { err = f() }); panicked != nil {
		return status.Error(codes.Internal, "internal error")
	}
	return err
}

func errStopping() error { return status.Error(codes.Unavailable, "the push node is stopping") }

func send(q *queue, stream attachStream) error {
	for {
		response := q.next()
		if response == nil {
			return nil
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// receive reads until the gateway leaves, which is no error, or breaks the protocol.
func (h *Hub) receive(g *gateway, stream attachStream) error {
	request, err := stream.Recv()
	if err != nil {
		return orLeft(err)
	}
	hello := request.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "want hello first")
	}
	log := h.log.With("gateway", hello.GetGateway())
	log.Info("gateway attached")
	g.name = hello.GetGateway()
	h.routes.attach(g)
	h.broadcasts.attach(g.queue)
	for {
		if request, err = stream.Recv(); err != nil {
			log.Info("gateway detached", "cause", g.queue.cause(), "error", err)
			return orLeft(err)
		}
		switch kind := request.GetKind().(type) {
		case *millracev1.AttachRequest_Interest:
			if err = h.routes.change(g, kind.Interest); err != nil {
				return err
			}
		case *millracev1.AttachRequest_Signal:
			h.routes.signal(kind.Signal)
		case *millracev1.AttachRequest_Sessions:
			h.routes.answer(g, kind.Sessions)
		case *millracev1.AttachRequest_BroadcastAck:
			h.broadcasts.acknowledge(g.queue, kind.BroadcastAck)
		default:
			return status.Errorf(codes.InvalidArgument, "%T is not expected", kind)
		}
	}
}

func orLeft(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
