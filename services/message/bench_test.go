package message

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/infra/hook"
	"millrace/infra/pubsub/memory"
	"millrace/infra/rules"
	"millrace/infra/signature"
	millracev1 "millrace/proto/millrace/v1"
)

// BenchmarkSendBatches sends messages over one stream and bufconn, with two frames unanswered, as a gateway does.
func BenchmarkSendBatches(b *testing.B) {
	for _, size := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("%d in a batch", size), func(b *testing.B) {
			n := newNode(b, memory.Config{Partitions: 64})
			stream := openBatches(b, n)
			b.ResetTimer()
			unanswered := 0
			for sent := 0; sent < b.N; {
				frame := &millracev1.SendBatchesRequest{}
				for sender := range 8 {
					batch := &millracev1.SendBatch{Id: uint64(sender)}
					for range size {
						batch.Messages = append(batch.Messages, &millracev1.SendWSMessageRequest{
							Sender: by(int64(sender + 1)), To: 100, Content: "0123456789", ClientMsgId: fmt.Sprint(sent),
						})
						sent++
					}
					frame.Batches = append(frame.Batches, batch)
				}
				require.NoError(b, stream.Send(frame))
				unanswered = answered(b, stream, unanswered+len(frame.GetBatches()), 8)
			}
			require.NoError(b, stream.CloseSend())
			answered(b, stream, unanswered, 0)
		})
	}
}

// answered reads until at most atMost batches are unanswered, and returns how many are.
func answered(b *testing.B, stream batchClient, unanswered, atMost int) int {
	b.Helper()
	for unanswered > atMost {
		response, err := stream.Recv()
		require.NoError(b, err)
		unanswered -= len(response.GetResults())
	}
	return unanswered
}

// BenchmarkPrepare measures what a direct message costs until it can be published.
func BenchmarkPrepare(b *testing.B) {
	for _, size := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d in a batch", size), func(b *testing.B) {
			n := newNode(b, memory.Config{Partitions: 64})
			batch := make([]*millracev1.SendWSMessageRequest, size)
			for i := range batch {
				batch[i] = &millracev1.SendWSMessageRequest{
					Sender: by(1001), To: 1002, Content: strings.Repeat("x", 100), ClientMsgId: fmt.Sprint("0123456789012345-", i), CorrelationId: "0123456789",
				}
			}
			b.ReportAllocs()
			for sent := 0; sent < b.N; sent += size {
				require.Len(b, n.service.prepare(b.Context(), batch).records, size)
			}
		})
	}
}

// BenchmarkSyncOfATail resumes from a log with 1,000 records that are not stored, 20 of which concern the user.
func BenchmarkSyncOfATail(b *testing.B) {
	n := newNode(b, memory.Config{})
	for i := range 1000 {
		n.publish(b, said(int64(i%50+2), int64(i%50+1), fmt.Sprint(i)))
	}
	cursor := map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0}
	for b.Loop() {
		n.resume(b, 1, cursor)
	}
}

// BenchmarkSendsUnderHooks sends batches of 16 messages by the batch, without hooks, with 20 rules of which none matches, and
// with a hook over HTTP on loopback that lets everything pass.
func BenchmarkSendsUnderHooks(b *testing.B) {
	const size = 16
	var file strings.Builder
	file.WriteString("rules:\n")
	for i := range 20 {
		fmt.Fprintf(&file, "  - name: r%d\n    when: %s\n    reject: no such thing\n", i, []string{
			`content contains "wire me money"`, "content matches `(?i)casino|lottery`", `user_type == "banned" && rate("1m") > 10`,
			`len(content) > 10000 && message_type == 1`, `from in [1, 2, 3] && region == "xx"`,
		}[i%5])
	}
	path := filepath.Join(b.TempDir(), "rules.yaml")
	require.NoError(b, os.WriteFile(path, []byte(file.String()), 0o600))
	rule, err := rules.Open(path, func(*rules.Set) error { return nil }, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(b, err)

	passes := `{"verdicts":[` + strings.Repeat("{},", size-1) + "{}]}"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, passes) }))
	defer server.Close()
	endpoint := hook.NewHTTP(server.URL, signature.Keys{make([]byte, 32)})
	defer endpoint.Close()

	for _, c := range []struct {
		name  string
		hooks []Hook
	}{
		{"none", nil},
		{"20 rules", []Hook{as(rule)}},
		{"HTTP", []Hook{as(endpoint)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := newNodeOver(b, memory.NewBus(memory.Config{}), c.hooks...)
			b.ReportAllocs()
			for sent := 0; sent < b.N; {
				batch := make([]*millracev1.SendWSMessageRequest, 0, size)
				for range size {
					batch = append(batch, &millracev1.SendWSMessageRequest{
						Sender: by(1000), To: 100, Content: "see you at the station at ten", ClientMsgId: fmt.Sprint(sent),
					})
					sent++
				}
				for _, result := range n.service.send(b.Context(), batch) {
					require.Zero(b, result.GetCode())
				}
			}
		})
	}
}
