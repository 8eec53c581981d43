package audit

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func TestLogOfOperationsTellsWhichKeyCalledWhatAndCanBeVerified(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operations.log")
	for range 2 { // what comes again after a restart is known
		o := NewOperations(OperationsConfig{Path: path}, slog.New(slog.DiscardHandler))
		o.Start()
		for seq := range int64(3) {
			require.NoError(t, o.Handler().Handle(t.Context(), events.Record{
				Event: events.Event{Type: events.OperatorCalled, EventID: "e", Timestamp: 9, Call: &events.Call{
					Key: "ops", Method: "/S/RevokeTokens", Target: map[string]string{"user": "7", "before": "5"},
				}},
				Position: events.Position{Partition: 2, Seq: seq + 1},
			}))
		}
		require.NoError(t, o.Close())
	}
	written := lines(t, path)
	require.Len(t, written, 3)
	require.Equal(t, `{"when":9,"key":"ops","method":"/S/RevokeTokens","target":{"before":"5","user":"7"},"id":"e","partition":2,"seq":1}`, written[0])
	v, err := Verify("", path)
	require.NoError(t, err)
	require.EqualValues(t, 3, v.Last)
}
