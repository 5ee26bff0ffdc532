// Package sqltx makes a *sql.Tx from a transaction of gorm, for code that needs package
// database/sql.
//
// The *sql.Tx belongs to a database/sql driver in this process. The driver passes each
// statement to the gorm.ConnPool of the transaction. Arguments, results, rows and errors
// stay unchanged.
package sqltx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm"
)

var (
	errNotEnded = errors.New("the context of the transaction never ends, and the *sql.Tx would stay in memory: begin with db.WithContext(ctx), or pass tx.WithContext(ctx), with a context that ends")
	errCommit   = errors.New("the code that began the local transaction commits it: return nil instead of calling Commit")
	errRollback = errors.New("the code that began the local transaction rolls it back: return an error instead of calling Rollback")
)

// Of returns a *sql.Tx for the transaction of tx. It ends when the context of tx ends.
func Of(tx *gorm.DB) (*sql.Tx, error) {
	if tx == nil || tx.Statement == nil {
		return nil, errors.New("the database handle is nil")
	}
	if tx.Error != nil {
		return nil, fmt.Errorf("the database handle has an error: %w", tx.Error)
	}
	pool := tx.Statement.ConnPool
	if prepared, ok := pool.(*gorm.PreparedStmtTX); ok && prepared != nil {
		pool = prepared.Tx
	}
	if plain, ok := pool.(*sql.Tx); ok && plain != nil {
		return plain, nil
	}
	if _, ok := pool.(gorm.TxCommitter); !ok || isNil(pool) {
		return nil, errors.New("the database handle is not in a transaction: use the tx that a branch got, or the tx of db.Transaction or db.Begin")
	}
	ctx := tx.Statement.Context
	if ctx == nil || ctx.Done() == nil {
		return nil, errNotEnded
	}
	// This pool includes gorm's prepared statements, if there are any.
	db := sql.OpenDB(connector{&conn{ctx: ctx, pool: tx.Statement.ConnPool}})
	opened, err := db.BeginTx(ctx, nil)
	// The open transaction keeps its connection, and does not need the pool.
	db.Close()
	return opened, err
}

func isNil(pool gorm.ConnPool) bool {
	v := reflect.ValueOf(pool)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// connector opens the one connection of a pool.
type connector struct{ conn *conn }

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.conn, nil }
func (c connector) Driver() driver.Driver                        { return c }
func (c connector) Open(string) (driver.Conn, error)             { return c.conn, nil }

// conn passes statements to a gorm.ConnPool. Package database/sql calls it from one
// goroutine at a time.
type conn struct {
	ctx  context.Context // of the transaction
	pool gorm.ConnPool
}

var _ interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Tx
} = (*conn)(nil)

func (c *conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return c, nil }
func (c *conn) Begin() (driver.Tx, error)                                    { return c, nil }
func (c *conn) Commit() error                                                { return errCommit }
func (c *conn) Rollback() error                                              { return errRollback }
func (c *conn) Close() error                                                 { return nil }

// CheckNamedValue accepts every argument: the real driver checks it.
func (c *conn) CheckNamedValue(*driver.NamedValue) error { return nil }

func (c *conn) ExecContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Result, error) {
	return c.pool.ExecContext(c.bounded(ctx), query, plain(arguments)...)
}

func (c *conn) QueryContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Rows, error) {
	found, err := c.pool.QueryContext(c.bounded(ctx), query, plain(arguments)...)
	if err != nil {
		return nil, err
	}
	columns, err := found.Columns()
	if err != nil {
		found.Close()
		return nil, err
	}
	return newRows(found, columns), nil
}

// bounded returns ctx, or the context of the transaction if ctx never ends.
func (c *conn) bounded(ctx context.Context) context.Context {
	if ctx.Done() == nil {
		return c.ctx
	}
	return ctx
}

func plain(arguments []driver.NamedValue) []any {
	values := make([]any, len(arguments))
	for i, a := range arguments {
		values[i] = a.Value
		if a.Name != "" {
			values[i] = sql.Named(a.Name, a.Value)
		}
	}
	return values
}

func (c *conn) Prepare(query string) (driver.Stmt, error) { return &stmt{c, query}, nil }

func (c *conn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return c.Prepare(query)
}

// stmt is a prepared statement. It is sent as an ordinary statement each time: a
// *sql.Stmt of the pool would bypass a pool that watches its statements.
type stmt struct {
	conn  *conn
	query string
}

func (s *stmt) Close() error  { return nil }
func (s *stmt) NumInput() int { return -1 }

func (s *stmt) ExecContext(ctx context.Context, arguments []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, arguments)
}

func (s *stmt) QueryContext(ctx context.Context, arguments []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, arguments)
}

// Exec and Query are for drivers without contexts, and are never called.
func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }
func (s *stmt) Query([]driver.Value) (driver.Rows, error)  { return nil, driver.ErrSkip }
