package cluster

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

func TestACallGoesOnOverAnotherNode(t *testing.T) {
	n := NewNodes(slog.New(slog.DiscardHandler))
	for range 2 {
		n.list = append(n.list, newUplink(&Node{}, n.unpark, n.log))
	}
	for code, want := range map[codes.Code]int{
		codes.OK: 1, codes.NotFound: 1, codes.Unavailable: 2, codes.DeadlineExceeded: 2, codes.Canceled: 2,
	} {
		calls := 0
		err := n.Call(t.Context(), func(context.Context, millracev1.MessageServiceClient) error {
			calls++
			return status.Error(code, "")
		})
		require.Equal(t, code, status.Code(err))
		require.Equal(t, want, calls, code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := n.Call(ctx, func(ctx context.Context, _ millracev1.MessageServiceClient) error {
		calls++
		cancel()
		return status.FromContextError(ctx.Err()).Err()
	})
	require.Equal(t, codes.Canceled, status.Code(err))
	require.Equal(t, 1, calls, "the caller has given up")
}
