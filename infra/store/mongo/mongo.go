// Package mongo keeps what the storage handler writes in MongoDB: a replica set or a sharded cluster, that many processes
// share.
//
// There are no transactions. Every document is changed by atomic updates that have no effect when repeated, and a batch of
// records is a few bulk writes in a fixed order: messages, the conversations and users they concern, changes of
// membership, edits and recalls, read marks, heads, and at last the position up to which each partition is stored. Whoever
// reads a position therefore finds everything up to it, and a batch that broke off is completed when its records come
// again.
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
	// tryTimeout bounds a try to open it: indexes of a large collection take their time.
	tryTimeout   = 20 * time.Second
	tryPause     = 100 * time.Millisecond
	closeTimeout = 5 * time.Second
	// knownConversations are those whose documents need not be created: 32,768 names are about 3 MB.
	knownConversations = 1 << 15
)

// DB is a store in one database. Its methods may be called concurrently. Errors of the connection, of a server that is
// missing or too slow, and of a change of primary are transient: they are not marked [events.Permanent].
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

	// known are conversations that have their document and, direct ones, those of their two users.
	known *lru.Cache[string, struct{}]
	close func() error
}

// Open connects to the database that the URI names, "millrace" if it names none, and creates the indexes, also while others
// do the same. Whatever the URI says, writes are acknowledged by a majority and retried once, and only what a majority has
// is read, from the primary. A server that cannot be reached is waited for until the context ends; one that is not to be
// trusted, or refuses the user, is an error at once. No error holds the URI, in which there may be a password.
func Open(ctx context.Context, uri string) (*DB, error) { return open(ctx, uri) }

func open(ctx context.Context, uri string, more ...*options.ClientOptions) (*DB, error) {
	opts := options.Client().ApplyURI(uri).
		SetAppName("millrace").
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetRetryWrites(true).
		SetRetryReads(true).
		SetTimeout(callTimeout)
	if err := CheckURI(uri); err != nil { // the driver's own words may hold a password
		return nil, fmt.Errorf("open MongoDB: URI: %w", err)
	}
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

// await creates the indexes, and tries again until the context ends while that takes a server longer than a try, or none
// can be reached. Why the context ended, if somebody said so, is more than what failed last.
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

// Close waits for the calls in progress, but not for ever, and disconnects. Later calls fail.
func (db *DB) Close() error { return db.close() }
