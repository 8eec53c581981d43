package mongo

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/store/mongo/mongotest"
	"millrace/infra/store/storetest"
)

var _ storetest.Store = (*DB)(nil)

func TestMain(m *testing.M) {
	if uri := os.Getenv(victimURI); uri != "" {
		saveUntilKilled(uri)
	}
	goleak.VerifyTestMain(m)
}

func TestStore(t *testing.T) {
	server := mongotest.Start(t)
	storetest.Run(t, func(t *testing.T) storetest.Store { return opened(t, server.Database(t)) })
}

func opened(t testing.TB, uri string, more ...*options.ClientOptions) *DB {
	t.Helper()
	db, err := open(t.Context(), uri, more...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// record returns the pair's message with that number, at the next position of its partition.
func record(seqs map[int32]int64, pair int64, number int) events.Record {
	from, to := 2*pair+1, 2*pair+2
	m := &events.Message{
		ClientMsgID: fmt.Sprint(number), Conversation: events.Direct(from, to), From: from, To: to,
		Content: fmt.Sprint(number), MessageType: 1, Timestamp: int64(number + 1),
	}
	m.MessageID = events.MessageID(from, m.Conversation, m.ClientMsgID)
	partition := events.Partition(m.Conversation, events.DefaultPartitions)
	seqs[partition]++
	return events.Record{
		Event:    events.Event{Type: events.NewMessage, Message: m},
		Position: events.Position{Partition: partition, Seq: seqs[partition]},
	}
}
