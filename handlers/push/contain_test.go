package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// brokenStream panics when it is read.
type brokenStream struct{ grpc.ServerStream }

func (brokenStream) Recv() (*millracev1.AttachRequest, error) { panic("at the disco") }
func (brokenStream) Send(*millracev1.AttachResponse) error    { return nil }

func TestPanicOverOneGatewayBreaksItsStreamAlone(t *testing.T) {
	contained := make(chan error, 10)
	n := newNode(t, Options{Contain: func(f func()) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = errors.New(fmt.Sprint(v))
				contained <- err
			}
		}()
		f()
		return nil
	}})
	well := n.attach(t, "well", "u:2")
	require.Equal(t, codes.Internal, status.Code(n.Attach(brokenStream{})))
	require.EqualError(t, <-contained, "at the disco")
	n.say(t, 0, 1, 2, "on")
	require.NotNil(t, well.nextDelivery())
}

func TestWithoutContainAPanicIsNotCaught(t *testing.T) {
	h := New(Options{}, nil, slog.New(slog.DiscardHandler))
	require.Panics(t, func() { _ = h.contained(func() error { panic("at the disco") }) })
	require.NoError(t, h.Stop(context.Background()))
}
