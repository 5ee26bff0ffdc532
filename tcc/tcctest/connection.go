package tcctest

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/gorm"
)

// errLost is a connection that is lost, which no retry mends.
var errLost = errors.New("the connection to the database is lost, on purpose")

// watch returns tx on a connection that counts the statements of the branch, and
// fails at one of them.
func (h *how) watch(tx *gorm.DB) *gorm.DB {
	pool, ok := tx.Statement.ConnPool.(transaction)
	if !ok {
		return tx
	}
	watched := tx.Session(&gorm.Session{NewDB: true, Context: tx.Statement.Context})
	watched.Statement.ConnPool = &connection{transaction: pool, how: h}
	return watched
}

// transaction is what gorm's connection is in a local transaction.
type transaction interface {
	gorm.ConnPool
	gorm.TxCommitter
}

// connection is that of a local transaction. From the statement that fails on,
// all do.
type connection struct {
	transaction
	how *how
}

func (c *connection) next() error {
	c.how.statements++
	if c.how.statement > 0 && c.how.statements >= c.how.statement {
		return errLost
	}
	return nil
}

func (c *connection) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	if err := c.next(); err != nil {
		return nil, err
	}
	return c.transaction.ExecContext(ctx, query, arguments...)
}

func (c *connection) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	if err := c.next(); err != nil {
		return nil, err
	}
	return c.transaction.QueryContext(ctx, query, arguments...)
}

func (c *connection) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	if err := c.next(); err != nil {
		// A row cannot carry an error of ours; one whose context is over fails.
		over, cancel := context.WithCancel(ctx)
		cancel()
		return c.transaction.QueryRowContext(over, query, arguments...)
	}
	return c.transaction.QueryRowContext(ctx, query, arguments...)
}
