package proof

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/stretchr/testify/require"

	"millrace/infra/store"
	"millrace/infra/store/mongo"
	"millrace/infra/store/sqlite"
)

const (
	// mongoServerEnv names the directory in which the server of deployments/mongo-java-server is installed.
	mongoServerEnv = "MILLRACE_TEST_MONGO_JAVA_SERVER"
	// mongoServer is the name of its process. It keeps everything in memory, so it may stop answering, but not end.
	mongoServer = "mongodb"
)

// startMongoServer starts a server that speaks the MongoDB wire protocol. Processes that start afterwards store in it.
func (c *cluster) startMongoServer() {
	t := c.t
	t.Helper()
	installed := os.Getenv(mongoServerEnv)
	require.NotEmpty(t, installed, "a store over the MongoDB wire protocol needs a server: task chaos STORE=mongodb installs it")
	_, err := exec.LookPath("java")
	require.NoError(t, err, "a store over the MongoDB wire protocol needs Java 17")
	t.Setenv("MONGO_JAVA_SERVER_DIR", installed)
	at := FreeAddresses(t, 1)[0]
	c.mongoDB = &process{
		name: mongoServer, path: "../../../deployments/mongo-java-server/server.sh", ready: at, log: filepath.Join(c.dataDir, mongoServer+".out"),
		args: []string{"run", port(t, at)}, exit: 143, // Java ends with it after SIGTERM
	}
	c.mongoDB.start(t)
	t.Cleanup(c.mongoDB.kill)
	c.mongoDB.awaitReady(t)
	t.Setenv("MILLRACE_MONGODB_URI", c.mongoURI())
}

func (c *cluster) mongoURI() string { return "mongodb://" + c.mongoDB.ready + "/millrace" }

// storeReader is what the tests read from a store past the nodes, because these may be broken then or do not return it.
type storeReader interface {
	Buckets(ctx context.Context, series string, span store.Span, since int64) ([]store.Bucket, error)
	ChangeSeq(ctx context.Context, conversation, eventID string) (int64, error)
	Close() error
}

// readStore passes the cluster's store, opened for this.
func (c *cluster) readStore(ctx context.Context, read func(storeReader) error) error {
	db, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(read(db), db.Close())
}

func (c *cluster) openStore(ctx context.Context) (storeReader, error) {
	if c.mongoDB != nil {
		return mongo.Open(ctx, c.mongoURI())
	}
	return sqlite.Open(ctx, c.store())
}

// countedInStore returns how many messages the series has counted.
func (c *cluster) countedInStore(ctx context.Context, series string) (n int64, err error) {
	spans := store.Spans()
	longest := spans[len(spans)-1]
	err = c.readStore(ctx, func(db storeReader) error {
		buckets, err := db.Buckets(ctx, series, longest, 0)
		for _, b := range buckets {
			n += b.Messages
		}
		return err
	})
	return n, err
}

// changedGroups returns the ids of those events of the log that have changed groups in the store.
func (c *cluster) changedGroups(ctx context.Context, log *logged) (ids map[string]bool, err error) {
	ids = map[string]bool{}
	return ids, c.readStore(ctx, func(db storeReader) error {
		for id, conversation := range log.groupChanges {
			seq, err := db.ChangeSeq(ctx, conversation, id)
			if err != nil {
				return err
			}
			if seq > 0 {
				ids[id] = true
			}
		}
		return nil
	})
}
