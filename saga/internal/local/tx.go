package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// ErrAborted is wrapped by the error of every statement, and of the COMMIT, of a
// local transaction that is over, because the server has rolled it back or
// because somebody gave it up. Nothing of it counts.
var ErrAborted = errors.New("the local transaction is over, and nothing more is sent in it")

// errReserved is what user code hears that wants to end the local transaction.
var errReserved = errors.New("the local transaction belongs to the framework, which commits it or rolls it back: return nil or an error instead")

// Tx is a local transaction. It watches the answer to every statement: after a
// deadlock MySQL has rolled the whole transaction back, and what follows on the
// connection would commit by itself. A Tx then sends nothing more and refuses the
// COMMIT, as PostgreSQL does by itself.
//
// It is the ConnPool of the gorm handles that [Run] gives away.
type Tx struct {
	conn    *sql.Conn
	tx      *sql.Tx
	dialect dialect.Dialect

	mu       sync.Mutex
	aborted  error // why it is over
	doubtful bool  // the server has to be asked whether it is over
	reading  bool  // because of a locking read, whose error may have come with its rows
	failure  error // the last statement that failed
	spoiled  bool  // the connection is of no further use
}

var _ gorm.Tx = (*Tx)(nil)

// ready returns nil if a statement may be sent.
func (t *Tx) ready(ctx context.Context) error {
	t.mu.Lock()
	doubtful, aborted := t.doubtful, t.aborted
	t.doubtful = false
	t.mu.Unlock()
	if aborted == nil && doubtful {
		aborted = t.ask(ctx)
	}
	if aborted != nil {
		return fmt.Errorf("%w: %w", ErrAborted, aborted)
	}
	return nil
}

// Why a Tx is aborted that was over when the server was asked.
var (
	errEnded    = errors.New("a statement has ended it: one that commits implicitly, such as DDL, or one whose error was ignored")
	errDeadlock = errors.New("the database has ended it after a locking read whose error was ignored: a deadlock, most likely")
)

// ask asks the server whether the transaction is still the one that was begun, by
// a statement that it refuses inside one: MySQL's error 1568, and SQLite's refusal
// of a nested BEGIN.
func (t *Tx) ask(ctx context.Context) error {
	question := "SET TRANSACTION READ WRITE"
	if t.dialect == dialect.SQLite {
		question = "BEGIN"
	}
	_, err := t.tx.ExecContext(ctx, question)
	if number, ok := mysqlNumber(err); ok && number == 1568 {
		return nil
	}
	code, ok := sqliteCode(err)
	if ok && code == 1 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.aborted != nil {
		return t.aborted
	}
	switch {
	case err != nil:
		t.aborted = err
	case t.reading:
		t.aborted, t.spoiled = errDeadlock, true
	case t.failure != nil:
		t.aborted, t.spoiled = fmt.Errorf("%w: %w", errEnded, t.failure), true
	default:
		t.aborted, t.spoiled = errEnded, true
	}
	return t.aborted
}

// note remembers how a statement went.
func (t *Tx) note(ctx context.Context, err error) {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !Aborted(err) {
		t.failure = err
	}
	t.spoiled = t.spoiled || readOnly(err)
	switch {
	case t.aborted != nil:
	case rolledBack(t.dialect, err), t.answered(err) == nil && (looksLost(err) || ctx.Err() != nil):
		t.aborted = err
	case mayHaveRolledBack(t.dialect, err):
		t.doubtful = true
	}
}

func (t *Tx) isSpoiled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spoiled
}

// answered returns err if the server sent it.
func (t *Tx) answered(err error) error {
	_, byMySQL := mysqlNumber(err)
	_, byPostgres := sqlState(err)
	_, bySQLite := sqliteCode(err)
	if byMySQL || byPostgres || bySQLite {
		return err
	}
	return nil
}

// Abort ends the transaction because of err, also while a call of a branch has
// it: the statement under way is cut off, and nothing more is sent. It returns
// when the transaction is rolled back.
func (t *Tx) Abort(err error) {
	t.mu.Lock()
	if t.aborted == nil {
		t.aborted = err
	}
	t.mu.Unlock()
	t.tx.Rollback()
}

// ExecContext sends a statement.
func (t *Tx) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	result, err := t.tx.ExecContext(ctx, query, arguments...)
	t.note(ctx, err)
	return result, err
}

// QueryContext sends a statement that returns rows.
func (t *Tx) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	rows, err := t.tx.QueryContext(ctx, query, arguments...)
	t.note(ctx, err)
	return rows, err
}

// QueryRowContext sends a statement that returns a row. If nothing more is sent,
// the error of the row is that of a context that ended.
func (t *Tx) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	if err := t.ready(ctx); err != nil {
		return t.failedRow(ctx, query, err)
	}
	row := t.tx.QueryRowContext(ctx, query, arguments...)
	t.note(ctx, row.Err())
	return row
}

// failedRow returns a row that fails. It cannot carry an error of ours, but one
// whose context is over fails.
func (t *Tx) failedRow(ctx context.Context, query string, err error) *sql.Row {
	return t.tx.QueryRowContext(over(ctx, err), query)
}

// over returns a context that has ended because of err.
func over(ctx context.Context, err error) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(err)
	return ctx
}

// PrepareContext prepares a statement on the connection. Its calls are not
// watched: the server is asked before the next one that is.
func (t *Tx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	statement, err := t.tx.PrepareContext(ctx, query)
	t.note(ctx, err)
	t.doubt(false)
	return statement, err
}

// StmtContext is what [gorm.Tx] asks for before each call of a prepared statement;
// see [sql.Tx.StmtContext]. If nothing more is sent, the statement that it returns
// fails.
func (t *Tx) StmtContext(ctx context.Context, statement *sql.Stmt) *sql.Stmt {
	if err := t.ready(ctx); err != nil {
		return t.tx.StmtContext(over(ctx, err), statement)
	}
	t.doubt(false)
	return t.tx.StmtContext(ctx, statement)
}

// Commit refuses: only [Run] commits.
func (t *Tx) Commit() error { return errReserved }

// Rollback refuses: only [Run] rolls back.
func (t *Tx) Rollback() error { return errReserved }

// doubt lets the server be asked before the next statement, unless it keeps
// watch itself.
func (t *Tx) doubt(reading bool) {
	if t.dialect == dialect.Postgres {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubtful, t.reading = true, reading
}

// aliveTimeout bounds the look whether a connection is still there.
const aliveTimeout = time.Second

// lost says whether err came from this connection, which is gone, and not from
// another one that user code has.
func (t *Tx) lost(ctx context.Context, err error) bool {
	if !looksLost(err) || t.answered(err) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), aliveTimeout)
	defer cancel()
	_, askErr := t.tx.ExecContext(ctx, "SELECT 1")
	return askErr != nil && t.answered(askErr) == nil
}
