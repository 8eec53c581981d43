package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

var errClosed = errors.New("the store is closed")

// pool is a fixed number of connections, each with its own prepared statements.
type pool struct {
	db     *sql.DB
	begin  string
	opened int
	idle   chan *conn
}

type conn struct {
	*sql.Conn
	prepared map[string]*sql.Stmt
}

func openPool(ctx context.Context, dsn, begin string, size int) (*pool, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	p := &pool{db: db, begin: begin, idle: make(chan *conn, size)}
	for range size {
		c, err := db.Conn(ctx)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.opened++
		p.idle <- &conn{Conn: c, prepared: make(map[string]*sql.Stmt)}
	}
	return p, nil
}

// within runs work in a transaction, which it commits if work returns nil and rolls back otherwise. It stops waiting for a
// connection and for the lock when ctx ends. After that nothing blocks, so work gets a context that is not cancelled, and
// checks ctx itself if it takes long.
func (p *pool) within(ctx context.Context, work func(context.Context, *conn) error) error {
	var c *conn
	select {
	case c = <-p.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c == nil {
		return errClosed
	}
	defer func() { p.idle <- c }()

	lasting := context.WithoutCancel(ctx)
	err := c.exec(ctx, p.begin)
	if err == nil {
		err = work(lasting, c)
	}
	if err == nil {
		err = c.exec(lasting, "COMMIT")
	}
	if err != nil {
		// This fails if there is no transaction, because BEGIN failed or SQLite has rolled back by itself.
		_ = c.exec(lasting, "ROLLBACK")
	}
	return err
}

// close waits until every connection is idle.
func (p *pool) close() error {
	var errs []error
	for range p.opened {
		errs = append(errs, (<-p.idle).close())
	}
	close(p.idle)
	return errors.Join(append(errs, p.db.Close())...)
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.Conn.Close())...)
}

func (c *conn) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := c.prepared[query]; ok {
		return s, nil
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.prepared[query] = s
	return s, nil
}

func (c *conn) exec(ctx context.Context, query string, args ...any) error {
	_, err := c.change(ctx, query, args...)
	return err
}

// change runs a statement and returns how many rows it changed.
func (c *conn) change(ctx context.Context, query string, args ...any) (int64, error) {
	s, err := c.statement(ctx, query)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// insert returns the row id of the new row.
func (c *conn) insert(ctx context.Context, query string, args ...any) (int64, error) {
	s, err := c.statement(ctx, query)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// get reads one row into dest and reports whether there is one.
func (c *conn) get(ctx context.Context, query string, args []any, dest ...any) (bool, error) {
	s, err := c.statement(ctx, query)
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// list calls scan for every row.
func (c *conn) list(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	s, err := c.statement(ctx, query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// column returns the values of the one column that the query selects.
func column[T any](ctx context.Context, from *pool, query string, args ...any) (values []T, err error) {
	err = from.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, query, args, func(rows *sql.Rows) error {
			var value T
			if err := rows.Scan(&value); err != nil {
				return err
			}
			values = append(values, value)
			return nil
		})
	})
	return values, err
}
