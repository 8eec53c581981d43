package api

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inProcess is a connection to services of this process, by which the HTTP gateway makes its calls. They pass the same
// interceptor as calls by gRPC.
type inProcess struct {
	services  map[*grpc.ServiceDesc]any
	intercept grpc.UnaryServerInterceptor
}

// Invoke makes a call.
func (c inProcess) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	for desc, service := range c.services {
		for _, m := range desc.Methods {
			if method != "/"+desc.ServiceName+"/"+m.MethodName {
				continue
			}
			given := func(in any) error { return move(in, args) }
			result, err := m.Handler(service, ctx, given, c.intercept)
			if err != nil {
				return err
			}
			return move(reply, result)
		}
	}
	return status.Error(codes.Unimplemented, "no such call")
}

func move(to, from any) error {
	dst, ok := to.(proto.Message)
	src, is := from.(proto.Message)
	if !ok || !is {
		return status.Error(codes.Internal, "not a message")
	}
	proto.Merge(dst, src)
	return nil
}

// NewStream returns an error: no call of the services streams.
func (c inProcess) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.ErrUnsupported
}
