// Package mongo is the store in MongoDB: in a replica set or a sharded cluster that many processes share.
//
// It uses no transactions. Every document is changed by atomic updates that have no effect when repeated. A batch of records
// is a few bulk writes in a fixed order: messages, the conversations and users that they concern, changes of membership,
// edits and recalls, read marks, heads, and last the stored position of each partition. So a reader that sees a stored
// position finds everything up to it, and a batch that broke off is completed when its records are saved again.
package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
)

const (
	defaultDatabase = "millrace"
	// callTimeout bounds every call whose context has no earlier deadline.
	callTimeout = 5 * time.Second
	// tryTimeout bounds one attempt to open the database, because creating indexes of a large collection takes its time.
	tryTimeout   = 20 * time.Second
	tryPause     = 100 * time.Millisecond
	closeTimeout = 5 * time.Second
	// knownConversations is how many conversations are remembered as having their documents; 32,768 names take about 3 MB.
	knownConversations = 1 << 15
)

// DB is a store in one database. It is safe for concurrent use. Errors of the connection, of a server that is missing or too
// slow, and of a change of the primary are transient: they are not marked [events.Permanent].
type DB struct {
	client *driver.Client

	messages      *driver.Collection
	changes       *driver.Collection
	conversations *driver.Collection
	participants  *driver.Collection
	positions     *driver.Collection
	topics        *driver.Collection
	groupIDs      *driver.Collection
	versions      *driver.Collection
	webhooks      *driver.Collection
	users         *driver.Collection
	blocks        *driver.Collection
	revocations   *driver.Collection
	tallies       *driver.Collection
	progress      *driver.Collection
	activeUsers   *driver.Collection
	subscriptions *driver.Collection
	notifications *driver.Collection
	erasures      *driver.Collection

	// known holds conversations whose documents exist, including, for direct ones, those of the two users.
	known *lru.Cache[string, struct{}]
	close func() error
}

// Open connects to the database that the URI names, or to "millrace" if it names none, and creates the indexes. Several
// processes may do so at once. Whatever the URI says, writes are acknowledged by a majority and retried once, and reads
// return from the primary only what a majority has. While a server cannot be reached, Open tries again until the context
// ends. It fails at once if the server's certificate is not to be trusted or the server refuses the user. No error contains
// the URI, which may contain a password.
func Open(ctx context.Context, uri string) (*DB, error) { return open(ctx, uri) }

func open(ctx context.Context, uri string, more ...*options.ClientOptions) (*DB, error) {
	if err := CheckURI(uri); err != nil { // the driver's own error may contain a password
		return nil, fmt.Errorf("open MongoDB: URI: %w", err)
	}
	opts, err := clientOptions(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("open MongoDB: %w", err)
	}
	opts.SetAppName("millrace").
		SetLoggerOptions(options.Logger().SetSink(driverLog{})).
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetRetryWrites(true).
		SetRetryReads(true).
		SetTimeout(callTimeout)
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open MongoDB: %w", err)
	}
	known, err := lru.New[string, struct{}](knownConversations)
	if err != nil {
		return nil, fmt.Errorf("open MongoDB: %w", err)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	opts.SetServerMonitor(distrust(len(opts.Hosts), end))
	client, err := driver.Connect(append([]*options.ClientOptions{opts}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("open MongoDB: %w", err)
	}
	database := client.Database(databaseOf(uri))
	db := &DB{
		client:        client,
		messages:      database.Collection("messages"),
		changes:       database.Collection("changes"),
		conversations: database.Collection("conversations"),
		participants:  database.Collection("participants"),
		positions:     database.Collection("positions"),
		topics:        database.Collection("topics"),
		groupIDs:      database.Collection("group_ids"),
		versions:      database.Collection("versions"),
		webhooks:      database.Collection("disabled_webhooks"),
		users:         database.Collection("users"),
		blocks:        database.Collection("blocks"),
		revocations:   database.Collection("revoked_tokens"),
		tallies:       database.Collection("tallies"),
		progress:      database.Collection("progress"),
		activeUsers:   database.Collection("active_users"),
		subscriptions: database.Collection("subscriptions"),
		notifications: database.Collection("notifications"),
		erasures:      database.Collection("erasures"),
		known:         known,
	}
	db.close = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return client.Disconnect(ctx)
	})
	if err := db.await(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open MongoDB: %w", err), db.close())
	}
	return db, nil
}

// await creates the indexes. It tries again until the context ends if the server needs longer than one attempt, or none can
// be reached. It returns the cause of the context's end, if there is one, else the last error.
func (db *DB) await(ctx context.Context) error {
	for {
		err := db.tryIndexes(ctx)
		refused := new(auth.Error)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && !errors.Is(context.Cause(ctx), ctx.Err()):
			return context.Cause(ctx)
		case ctx.Err() != nil, errors.As(err, &refused), !driver.IsTimeout(err) && !driver.IsNetworkError(err):
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(tryPause):
		}
	}
}

func (db *DB) tryIndexes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return db.createIndexes(ctx)
}

// Ping reports whether the primary can be reached.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.client.Ping(ctx, readpref.Primary()); err != nil {
		return fmt.Errorf("ping MongoDB: %w", err)
	}
	return nil
}

// Close waits a bounded time for the calls in progress, and disconnects. Later calls fail.
func (db *DB) Close() error { return db.close() }
