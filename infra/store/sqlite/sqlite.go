// Package sqlite is the store in one SQLite file, which several processes may open at once.
//
// A batch of records is one write transaction on the process's only writing connection. Messages are clustered by
// conversation and position. Message ids map to that place and refuse a second copy. Edits and changes of membership are kept
// by position beside the messages, and the stored position of each partition moves in the same transaction. Reads have
// connections of their own, on a snapshot that no writer disturbs.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	readingConnections  = 4
	cachedConversations = 1 << 15
)

// DB is a store in one file. It is safe for concurrent use. The errors of a file that is locked, unreadable or full are
// transient: they are not marked [events.Permanent].
type DB struct {
	writer, readers *pool
	// conversations caches ids that are committed; conversations are never deleted.
	conversations *lru.Cache[string, int64]
	close         func() error
}

// lockPatience is how long Open waits for a file that other processes have locked.
const lockPatience = 30 * time.Second

// Open opens the file, and creates it and its tables if necessary. Several processes may do so at once: while another one has
// the file locked, Open waits, at most 30 s. The folder must exist.
func Open(ctx context.Context, path string) (*DB, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		db, err := openOnce(ctx, path)
		if err == nil {
			return db, nil
		}
		err = fmt.Errorf("open %s: %w", path, err)
		if !busy(err) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func openOnce(ctx context.Context, path string) (*DB, error) {
	conversations, err := lru.New[string, int64](cachedConversations)
	if err != nil {
		return nil, err
	}
	writer, err := openPool(ctx, writerDSN(path), "BEGIN IMMEDIATE", 1)
	if err != nil {
		return nil, err
	}
	if err := initialize(ctx, writer); err != nil {
		return nil, errors.Join(err, writer.close())
	}
	readers, err := openPool(ctx, readerDSN(path), "BEGIN", readingConnections)
	if err != nil {
		return nil, errors.Join(err, writer.close())
	}
	db := &DB{writer: writer, readers: readers, conversations: conversations}
	db.close = sync.OnceValue(func() error { return errors.Join(readers.close(), writer.close()) })
	return db, nil
}

// Ping reports whether the file can be read.
func (db *DB) Ping(ctx context.Context) error {
	if _, err := db.Stored(ctx); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close waits for the calls in progress and closes the file. Later calls fail.
func (db *DB) Close() error { return db.close() }
