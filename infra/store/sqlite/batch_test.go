package sqlite

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// The test draws batches with no, few and many repeats, messages at positions that others have, and edits. A second store that
// saves the same records one by one shows what must come of them.
func TestBatchSavesWhatItsRecordsWouldOneByOne(t *testing.T) {
	refused, repeated := 0, 0
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		together := open(t, filepath.Join(t.TempDir(), "together.db"))
		single := open(t, filepath.Join(t.TempDir(), "single.db"))
		var drawn []events.Record
		odd := []int{0, 5, 40}[seed%3] // percent of the records that are no new message at a new position
		for range 3 {
			var batch []events.Record
			for range 1 + random.IntN(100) {
				r := record(map[int32]int64{}, random.Int64N(3), len(drawn), fmt.Sprint("text ", len(drawn)))
				r.Position = events.Position{Partition: 0, Seq: int64(len(drawn)) + 1}
				if of := len(drawn); of > 0 && random.IntN(100) < odd {
					earlier := drawn[random.IntN(of)]
					switch random.IntN(3) {
					case 0: // a repeat
						if earlier.Message != nil {
							r.Event = earlier.Event
							repeated++
						}
					case 1: // at a position that another message has
						r.Position = earlier.Position
					case 2:
						if earlier.Message != nil {
							r.Event = events.Event{
								Type: events.MessageEdited, EventID: fmt.Sprint("edit ", of), Conversation: earlier.Message.Conversation,
								MessageID: earlier.Message.MessageID, MessageSeq: earlier.Seq, By: earlier.Message.From, Content: "edited", Timestamp: 1,
							}
						}
					}
				}
				batch, drawn = append(batch, r), append(drawn, r)
			}
			got := together.SaveBatch(t.Context(), batch)
			for i, r := range batch {
				want := single.SaveBatch(t.Context(), []events.Record{r})[0]
				require.Equal(t, fmt.Sprint(want), fmt.Sprint(got[i]), "seed %d: %+v", seed, r)
				if want != nil {
					refused++
				}
			}
		}
		for pair := range int64(3) {
			name := events.Direct(2*pair+1, 2*pair+2)
			want, _, err := single.History(t.Context(), name, store.Page{Limit: 1000})
			require.NoError(t, err)
			got, _, err := together.History(t.Context(), name, store.Page{Limit: 1000})
			require.NoError(t, err)
			require.Equal(t, want, got, "seed %d", seed)
		}
		want, err := single.Stored(t.Context())
		require.NoError(t, err)
		got, err := together.Stored(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
		wantHeads, _, err := single.Heads(t.Context(), 1, store.Place{}, 10)
		require.NoError(t, err)
		gotHeads, _, err := together.Heads(t.Context(), 1, store.Place{}, 10)
		require.NoError(t, err)
		require.Equal(t, wantHeads, gotHeads, "seed %d", seed)
	}
	require.Greater(t, refused, 50)
	require.Greater(t, repeated, 50)
}
