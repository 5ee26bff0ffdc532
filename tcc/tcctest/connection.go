package tcctest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
)

// errOwnEnd is the error of a branch that has committed or rolled back.
var errOwnEnd = errors.New("the branch ends its local transaction")

// errFails is an error of the database that is not transient.
var errFails = errors.New("the statement fails, on purpose")

// how describes how a call goes wrong, and records what happens in it.
type how struct {
	crash  bool // the process dies after the work and before the commit
	rerun  bool // the local transaction is rolled back after the work, and run again
	unsent bool // the barrier row of an external Try is written, and Try is not called

	fault fault
	at    int // the statement with the fault, from 1

	watched bool        // the stack is watched all the time
	see     func(sight) // gets what is seen in the stack
	paused  *pause      // of the fault holds

	end         func()       // ends the context of the call
	over        atomic.Bool  // the call is given up
	progress    atomic.Int64 // counts beginnings and ends of statements
	returnedNil bool         // the branch returned nil
	ended       bool         // the branch has committed or rolled back
	ignoresEnd  bool         // the statement did not end with the context of the call

	statements []statement // those of the last run
}

// fault is what happens at a statement.
type fault int

const (
	none  fault = iota
	fails       // it fails; the statements after it do not
	skips       // it is not executed, and reports that it has changed no row
	hangs       // the context of the call ends, and the statement waits for its own context
	holds       // it waits until it is released
)

// statement is a statement of the branch.
type statement struct {
	query    string
	affected int64 // -1 if it is not known
}

// pause is a point at which a call waits for another one.
type pause struct{ reached, release chan struct{} }

func newPause() *pause { return &pause{make(chan struct{}), make(chan struct{})} }

// begin begins a run of the work.
func (h *how) begin() { h.statements, h.returnedNil, h.ended = nil, false, false }

// unreached reports whether the branch has not reached the statement with the fault.
func (h *how) unreached() bool { return len(h.statements) < h.at }

// watch returns tx on a connection that records the statements of the branch, and causes
// the fault.
func (h *how) watch(ctx context.Context, tx *gorm.DB) *gorm.DB {
	pool, ok := tx.Statement.ConnPool.(transaction)
	if !ok {
		return tx
	}
	watched := tx.Session(&gorm.Session{NewDB: true, Context: ctx})
	watched.Statement.ConnPool = &connection{transaction: pool, how: h}
	if full, ok := pool.(gorm.Tx); ok {
		watched.Statement.ConnPool = &fullConnection{connection{pool, h}, full}
	}
	return watched
}

// transaction is the type of gorm's connection in a local transaction.
type transaction interface {
	gorm.ConnPool
	gorm.TxCommitter
}

// connection is the connection of a watched local transaction.
type connection struct {
	transaction
	how *how
}

// fullConnection is a connection that also takes statements prepared on the pool.
type fullConnection struct {
	connection
	full gorm.Tx
}

// StmtContext implements [gorm.Tx].
func (c *fullConnection) StmtContext(ctx context.Context, stmt *sql.Stmt) *sql.Stmt {
	return c.full.StmtContext(ctx, stmt)
}

// Commit implements [gorm.TxCommitter].
func (c *connection) Commit() error { c.how.ended = true; return errOwnEnd }

// Rollback implements [gorm.TxCommitter].
func (c *connection) Rollback() error { c.how.ended = true; return errOwnEnd }

// next begins a statement. If skip is true, the statement must not be executed.
func (c *connection) next(ctx context.Context, query string) (skip bool, err error) {
	h := c.how
	h.progress.Add(1)
	if h.over.Load() {
		return false, errHangs
	}
	h.statements = append(h.statements, statement{query, -1})
	n := len(h.statements)
	switch {
	case n != h.at:
		return false, nil
	case h.fault == fails:
		return false, errFails
	case h.fault == skips:
		return true, nil
	case h.fault == hangs:
		return false, h.hang(ctx)
	case h.fault == holds && h.paused != nil:
		p := h.paused
		h.paused = nil // only in the first run
		close(p.reached)
		<-p.release
	}
	return false, nil
}

// hang ends the context of the call, and waits for the context of the statement.
func (h *how) hang(ctx context.Context) error {
	h.end()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		h.ignoresEnd = true
		return errFails
	}
}

// ExecContext implements [gorm.ConnPool].
func (c *connection) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	defer c.how.progress.Add(1)
	skip, err := c.next(ctx, query)
	if err != nil {
		return nil, err
	}
	if skip {
		return driver.RowsAffected(0), nil
	}
	result, err := c.transaction.ExecContext(ctx, query, arguments...)
	if err == nil {
		if n, unknown := result.RowsAffected(); unknown == nil {
			c.how.statements[len(c.how.statements)-1].affected = n
		}
	}
	return result, err
}

// QueryContext implements [gorm.ConnPool].
func (c *connection) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	defer c.how.progress.Add(1)
	if _, err := c.next(ctx, query); err != nil {
		return nil, err
	}
	return c.transaction.QueryContext(ctx, query, arguments...)
}

// QueryRowContext implements [gorm.ConnPool].
func (c *connection) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	defer c.how.progress.Add(1)
	if _, err := c.next(ctx, query); err != nil {
		return failedRow(err)
	}
	return c.transaction.QueryRowContext(ctx, query, arguments...)
}

// PrepareContext implements [gorm.ConnPool]. Later executions of the statement are not seen.
func (c *connection) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	defer c.how.progress.Add(1)
	if _, err := c.next(ctx, query); err != nil {
		return nil, err
	}
	return c.transaction.PrepareContext(ctx, query)
}

// failing is a database that cannot be reached.
type failing struct{ err error }

func (f failing) Connect(context.Context) (driver.Conn, error) { return nil, f.err }
func (f failing) Driver() driver.Driver                        { return nil }

// failedRow returns a row with err. Only database/sql can make one.
func failedRow(err error) *sql.Row {
	db := sql.OpenDB(failing{err})
	defer db.Close()
	return db.QueryRow("")
}

// changes reports whether a statement has changed rows, and could also have changed none.
func (s statement) changes() bool {
	words := strings.Fields(strings.ToUpper(s.query))
	if s.affected < 1 || len(words) == 0 {
		return false
	}
	return words[0] == "UPDATE" || words[0] == "INSERT" && strings.Contains(strings.Join(words, " "), " SELECT ")
}

// short returns the text of the statement for a message.
func (s statement) short() string {
	text := strings.Join(strings.Fields(s.query), " ")
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:100]) + "..."
	}
	return text
}
