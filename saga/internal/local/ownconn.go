package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// ownConn is a connection that was taken out of a pool and belongs to a pool of its own. So it
// can begin and end local transactions in its own way, and package database/sql still closes
// the rows and statements of user code at their end. Nobody else uses the connection
// meanwhile.
type ownConn struct {
	driver.Conn
	broken bool // the connection must not be used again
}

var (
	_ driver.Driver             = (*ownConn)(nil)
	_ driver.ConnPrepareContext = (*ownConn)(nil)
	_ driver.ExecerContext      = (*ownConn)(nil)
	_ driver.QueryerContext     = (*ownConn)(nil)
	_ driver.NamedValueChecker  = (*ownConn)(nil)
	_ driver.Validator          = (*ownConn)(nil)
	_ driver.SessionResetter    = (*ownConn)(nil)
)

// own takes the connection of the driver.
func (c *ownConn) own(conn *sql.Conn) error {
	return conn.Raw(func(inner any) error { c.Conn = inner.(driver.Conn); return nil })
}

// Driver returns the connection itself.
func (c *ownConn) Driver() driver.Driver { return c }

// Open returns the connection itself.
func (c *ownConn) Open(string) (driver.Conn, error) { return c, nil }

// Close does nothing: the connection belongs to another pool.
func (c *ownConn) Close() error { return nil }

// IsValid reports whether the connection may be used again.
func (c *ownConn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return !c.broken && (!ok || v.IsValid())
}

// ResetSession does nothing. Without it, package database/sql would close the connection after a
// rollback by the end of a context.
func (c *ownConn) ResetSession(context.Context) error { return nil }

// ExecContext sends a statement.
func (c *ownConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if e, ok := c.Conn.(driver.ExecerContext); ok {
		return e.ExecContext(ctx, query, args)
	}
	return nil, driver.ErrSkip
}

// QueryContext sends a statement that returns rows.
func (c *ownConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if q, ok := c.Conn.(driver.QueryerContext); ok {
		return q.QueryContext(ctx, query, args)
	}
	return nil, driver.ErrSkip
}

// PrepareContext prepares a statement.
func (c *ownConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if p, ok := c.Conn.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, query)
	}
	return c.Conn.Prepare(query)
}

// CheckNamedValue converts an argument.
func (c *ownConn) CheckNamedValue(value *driver.NamedValue) error {
	if v, ok := c.Conn.(driver.NamedValueChecker); ok {
		return v.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

// send sends a statement without arguments, if it is not empty. After an error that is not an
// answer of the server, the connection is broken.
func (c *ownConn) send(ctx context.Context, statement string) error {
	if statement == "" {
		return nil
	}
	_, err := c.ExecContext(ctx, statement, nil)
	if errors.Is(err, driver.ErrSkip) {
		err = errors.New("the driver of the database cannot send a statement as text")
	}
	c.broken = c.broken || err != nil && !byServer(err)
	return err
}
