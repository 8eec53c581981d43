package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/audit"
	"millrace/handlers/handlertest"
	"millrace/handlers/push"
	"millrace/handlers/storage"
	"millrace/handlers/users"
	"millrace/infra/pubsub/memory"
	"millrace/infra/store"
	"millrace/infra/store/sqlite"
	millracev1 "millrace/proto/millrace/v1"
)

// Every handler keeps the contract, with the real store, file or hub behind it. A new handler in handlers/module.go needs one
// line here, and a function that opens it.
func TestEveryHandlerKeepsTheContract(t *testing.T) {
	subjects := map[string]func(*testing.T) handlertest.Subject{
		"analytics":  openAnalytics,
		"audit":      openAudit,
		"groups":     openGroups,
		"moderation": openModeration,
		"notice":     openNotice,
		"notify":     openNotify,
		"operations": openOperations,
		"push":       openPush,
		"revocation": openRevocation,
		"route":      openRoute,
		"storage":    openStorage,
		"users":      openUsers,
		"webhook":    openWebhook,
	}
	for _, name := range handlers.Names() {
		t.Run(name, func(t *testing.T) {
			open, ok := subjects[name]
			require.True(t, ok, "the handler %s is not held to the contract yet: add it to the subjects", name)
			handlertest.Run(t, func(t *testing.T) handlertest.Subject {
				s := open(t)
				require.Contains(t, []string{name, name + "-contract"}, s.Handler.Name)
				require.Equal(t, handlers.NoReplay()[name], s.Handler.NoReplay)
				return s
			})
			t.Run("under the router", func(t *testing.T) { runUnderTheRouter(t, open(t)) })
		})
	}
}

func openAudit(t *testing.T) handlertest.Subject {
	return auditAt(t, filepath.Join(t.TempDir(), "audit.log"), nil, audit.New)
}

func openOperations(t *testing.T) handlertest.Subject {
	key := "ops"
	for n := 1; events.Partition(key, events.DefaultPartitions) != handlertest.Partition(); n++ {
		key = fmt.Sprint("ops-", n)
	}
	called := func(seq int64) events.Event {
		return events.Event{
			Type: events.OperatorCalled, EventID: fmt.Sprint(seq), Call: &events.Call{Key: key, Method: fmt.Sprint(seq)}, Timestamp: 1,
		}
	}
	return auditAt(t, filepath.Join(t.TempDir(), "operations.log"), called, audit.NewOperations)
}

// auditAt opens a handler that keeps a log at the path.
func auditAt[C audit.Config | audit.OperationsConfig](
	t *testing.T, path string, record func(seq int64) events.Event, open func(C, *slog.Logger) *audit.Audit,
) handlertest.Subject {
	t.Helper()
	a := open(C{Path: path}, slog.New(slog.DiscardHandler))
	a.Start()
	end := sync.OnceFunc(func() { require.NoError(t, a.Close()) })
	t.Cleanup(end)
	return handlertest.Subject{
		Handler: a.Handler(), Record: record,
		Done: func(t *testing.T) (done []int64) {
			file, err := os.Open(path)
			require.NoError(t, err)
			defer file.Close()
			for lines := bufio.NewScanner(file); lines.Scan(); {
				var line struct{ Seq int64 }
				require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
				done = append(done, line.Seq)
			}
			return done
		},
		TakeOver: func(t *testing.T) handlertest.Subject {
			end()
			return auditAt(t, path, record, open)
		},
	}
}

func openStorage(t *testing.T) handlertest.Subject {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "millrace.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return storageOver(t, db)
}

func storageOver(t *testing.T, db *sqlite.DB) handlertest.Subject {
	t.Helper()
	s := storage.New(db, slog.New(slog.DiscardHandler))
	s.Start()
	end := sync.OnceFunc(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	t.Cleanup(end)
	return handlertest.Subject{
		Handler: s.Handler(),
		Done: func(t *testing.T) (done []int64) {
			messages, _, err := db.History(t.Context(), handlertest.Conversation(), store.Page{Limit: 100})
			require.NoError(t, err)
			for _, m := range messages {
				done = append(done, m.Seq)
			}
			return done
		},
		TakeOver: func(t *testing.T) handlertest.Subject {
			end()
			return storageOver(t, db)
		},
	}
}

func openUsers(t *testing.T) handlertest.Subject {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "millrace.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	subject := handlertest.Subject{
		Handler: users.Handler(db),
		Record: func(seq int64) events.Event {
			return events.Event{Type: events.UserOnline, EventID: fmt.Sprint(seq), User: userOf(seq), Timestamp: 1}
		},
		Done: func(t *testing.T) (done []int64) {
			online, err := db.OnlineUsers(t.Context(), handlertest.Partition())
			require.NoError(t, err)
			for _, user := range online {
				done = append(done, user/usersApart)
			}
			return done
		},
	}
	subject.TakeOver = func(*testing.T) handlertest.Subject { return subject }
	return subject
}

// userOf returns a user whose records are in the suite's partition, another one for each seq. Users have no order among them, and
// these ascend.
func userOf(seq int64) int64 {
	user := seq * usersApart
	for events.Partition(fmt.Sprint(user), events.DefaultPartitions) != handlertest.Partition() {
		user++
	}
	return user
}

const usersApart = 1_000_000

func openPush(t *testing.T) handlertest.Subject {
	return (&watcher{covered: handlertest.Begin}).over(t)
}

// watcher is a gateway of the receiver. It counts each push once.
type watcher struct {
	covered int64
	done    []int64
}

// over attaches the watcher to a push node of its own.
func (w *watcher) over(t *testing.T) handlertest.Subject {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "millrace.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	bus := memory.NewBus(memory.Config{Partitions: events.DefaultPartitions})
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	admission, _, _, err := newAdmission(db, bus)
	require.NoError(t, err)
	ticks := make(chan time.Time)
	hub, stream, end := attachToHub(t, push.Options{Ticks: ticks}, admission)
	w.receive(t, stream, func(r *millracev1.AttachResponse) bool { return r.GetAck() != nil })

	h := hub.Handler()
	var settled atomic.Int64
	settle := h.Settled
	h.Settled = func(pos events.Position) {
		if pos.Partition == handlertest.Partition() {
			settled.Store(max(settled.Load(), pos.Seq))
		}
		settle(pos)
	}
	covered := func(t *testing.T) {
		ticks <- time.Now() // makes the hub cover what was settled
		w.receive(t, stream, func(*millracev1.AttachResponse) bool { return w.covered >= settled.Load() })
	}
	return handlertest.Subject{
		Handler: h,
		Done: func(t *testing.T) []int64 {
			covered(t)
			return slices.Clone(w.done)
		},
		TakeOver: func(t *testing.T) handlertest.Subject {
			covered(t)
			end()
			return w.over(t)
		},
	}
}

// attachToHub attaches a gateway, with the receiver's channel, to a push node of its own. end stops the node.
func attachToHub(
	t *testing.T, opts push.Options, admission push.Admission,
) (hub *push.Hub, stream millracev1.PushService_AttachClient, end func()) {
	t.Helper()
	hub = push.New(opts, admission, slog.New(slog.DiscardHandler))
	hub.Start()
	server := grpc.NewServer()
	millracev1.RegisterPushServiceServer(server, hub)
	listener := bufconn.Listen(1 << 16)
	var serving sync.WaitGroup
	serving.Go(func() { assert.NoError(t, server.Serve(listener)) })
	conn, err := grpc.NewClient("passthrough:push", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	end = sync.OnceFunc(func() {
		require.NoError(t, hub.Stop(context.WithoutCancel(t.Context())))
		server.GracefulStop()
		require.NoError(t, conn.Close())
		serving.Wait()
	})
	t.Cleanup(end)
	stream, err = millracev1.NewPushServiceClient(conn).Attach(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	for _, request := range []*millracev1.AttachRequest{
		{Kind: &millracev1.AttachRequest_Hello{Hello: &millracev1.Hello{Gateway: "watcher"}}},
		{Kind: &millracev1.AttachRequest_Interest{Interest: &millracev1.Interest{
			Number: 1, Add: []string{events.UserChannel(handlertest.Receiver)},
		}}},
	} {
		require.NoError(t, stream.Send(request))
	}
	return hub, stream, end
}

// receive takes frames until enough reports true; enough is first called with nil, for the frames that came before.
func (w *watcher) receive(t *testing.T, stream millracev1.PushService_AttachClient, enough func(*millracev1.AttachResponse) bool) {
	t.Helper()
	for r := (*millracev1.AttachResponse)(nil); !enough(r); {
		var err error
		r, err = stream.Recv()
		require.NoError(t, err)
		for _, span := range r.GetSpans() {
			if span.GetPartition() != handlertest.Partition() {
				continue
			}
			for _, d := range span.GetDeliveries() {
				if d.GetSeq() > w.covered {
					w.done = append(w.done, d.GetSeq())
				}
			}
			w.covered = max(w.covered, span.GetThrough())
		}
	}
}
