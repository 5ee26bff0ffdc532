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

// ErrAborted is wrapped by the errors of the statements and of the COMMIT of a local
// transaction that is over: the server has rolled it back, or [Tx.Abort] was called.
// Nothing of it is committed.
var ErrAborted = errors.New("the local transaction is over, no more statements are sent")

// errOwned is returned to user code that tries to end the local transaction.
var errOwned = errors.New("the local transaction belongs to the framework, which commits it or rolls it back: return nil or an error instead")

// Tx is a local transaction. It checks the answer to every statement. After a deadlock,
// MySQL has rolled the whole transaction back, and each later statement on the connection
// would commit by itself. So a Tx then sends nothing more and refuses the COMMIT.
// PostgreSQL does this by itself.
//
// A Tx is the ConnPool of the gorm handles that [Run] passes to work, and that [Guard] returns.
type Tx struct {
	pool    *sql.DB
	conn    *sql.Conn // nil in the local transaction of a caller
	tx      gorm.Tx   // a *sql.Tx, or what a caller has made of one
	dialect dialect.Dialect

	twoPhase bool   // it is prepared at its end, on a connection of a pool of its own
	unchain  func() // makes the next ones take prepared statements, on a chainConn; otherwise nil

	mu          sync.Mutex
	sent        int   // statements
	aborted     error // why it is over; nil if it is not
	mustAsk     bool  // the server has to be asked whether it is over
	lockingRead bool  // because of a locking read: its error may come with its rows
	failure     error // of the last statement that failed
	unusable    bool  // the connection must not be used again
}

// Guard returns a handle on the local transaction tx of a caller, who ends it. The handle sends
// nothing more after the server has rolled back by itself, although user code has ignored the
// error: the statements would commit one by one. Intact says whether that has happened.
func Guard(ctx context.Context, tx *gorm.DB) (*gorm.DB, error) {
	pool, err := Pool(tx)
	if err != nil {
		return nil, err
	}
	own := tx.Statement.ConnPool
	if prepared, ok := own.(*gorm.PreparedStmtTX); ok {
		own = prepared.Tx
	}
	begun, ok := own.(gorm.Tx)
	if !ok {
		return nil, fmt.Errorf("a local transaction of the type %T is not supported: begin it with gorm or with package database/sql", own)
	}
	switch begun.(type) {
	case *Tx, *userTx:
		return tx, nil // it is guarded
	}
	return raw(ctx, tx, &Tx{pool: pool, tx: begun, dialect: dialectOf(tx)}), nil
}

// Intact returns an error if the local transaction of a handle of [Guard] is over.
func Intact(ctx context.Context, guarded *gorm.DB) error {
	if t, ok := guarded.Statement.ConnPool.(*Tx); ok {
		return t.ready(ctx)
	}
	return nil
}

var (
	_ gorm.Tx             = (*Tx)(nil)
	_ gorm.GetDBConnector = (*Tx)(nil)
)

// GetDBConn returns the pool that the local transaction is of. A handle of user code has it from here.
func (t *Tx) GetDBConn() (*sql.DB, error) { return t.pool, nil }

// ready returns nil if a statement may be sent.
func (t *Tx) ready(ctx context.Context) error {
	t.mu.Lock()
	mustAsk, aborted := t.mustAsk, t.aborted
	t.mustAsk = false
	t.sent++
	t.mu.Unlock()
	if aborted == nil && mustAsk {
		aborted = t.askServer(ctx)
	}
	if aborted != nil {
		return fmt.Errorf("%w: %w", ErrAborted, aborted)
	}
	return nil
}

// Why a Tx is over, if askServer finds it so.
var (
	errEnded    = errors.New("a statement has ended it: one that commits implicitly, such as DDL, or one with an error that was ignored")
	errDeadlock = errors.New("the database has ended it after a locking read with an error that was ignored, probably a deadlock")
)

// askServer asks the server whether the transaction is still open. It sends a statement
// that the server refuses in a transaction: with MySQL's error 1568, and with SQLite's
// error of a nested BEGIN.
func (t *Tx) askServer(ctx context.Context) error {
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
	case t.lockingRead:
		t.aborted, t.unusable = errDeadlock, true
	case t.failure != nil:
		t.aborted, t.unusable = fmt.Errorf("%w: %w", errEnded, t.failure), true
	default:
		t.aborted, t.unusable = errEnded, true
	}
	return t.aborted
}

// record records the result of a statement.
func (t *Tx) record(ctx context.Context, err error) {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !Aborted(err) {
		t.failure = err
	}
	t.unusable = t.unusable || readOnly(err)
	switch {
	case t.aborted != nil:
	case rolledBack(t.dialect, err), t.answered(err) == nil && (looksLost(err) || ctx.Err() != nil):
		t.aborted = err
	case mayHaveRolledBack(t.dialect, err):
		t.mustAsk = true
	}
}

func (t *Tx) isUnusable() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unusable
}

// Sent returns how many statements were sent, or prepared to be sent. It says whether something
// was done between two calls.
func (t *Tx) Sent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

// answered returns err if the server sent it, and nil otherwise.
func (t *Tx) answered(err error) error {
	if byServer(err) {
		return err
	}
	return nil
}

// byServer reports whether a server sent err.
func byServer(err error) bool {
	_, byMySQL := mysqlNumber(err)
	_, byPostgres := sqlState(err)
	_, bySQLite := sqliteCode(err)
	return byMySQL || byPostgres || bySQLite
}

// Abort ends the transaction because of err, also while a branch uses it. It interrupts
// the statement under way, and nothing more is sent. It returns when the transaction is
// rolled back.
func (t *Tx) Abort(err error) {
	t.mu.Lock()
	if t.aborted == nil {
		t.aborted = err
	}
	t.mu.Unlock()
	_ = t.tx.Rollback()
}

// ExecContext sends a statement.
func (t *Tx) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	result, err := t.tx.ExecContext(ctx, query, arguments...)
	t.record(ctx, err)
	return result, err
}

// QueryContext sends a statement that returns rows.
func (t *Tx) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	rows, err := t.tx.QueryContext(ctx, query, arguments...)
	t.record(ctx, err)
	return rows, err
}

// QueryRowContext sends a statement that returns a row. If the transaction is over, the
// error of the row is that of an ended context.
func (t *Tx) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	if err := t.ready(ctx); err != nil {
		return t.failedRow(ctx, query, err)
	}
	row := t.tx.QueryRowContext(ctx, query, arguments...)
	t.record(ctx, row.Err())
	return row
}

// failedRow returns a row with an error. Only package sql can put an error into a row, so
// the query gets an ended context.
func (t *Tx) failedRow(ctx context.Context, query string, err error) *sql.Row {
	return t.tx.QueryRowContext(ended(ctx, err), query)
}

// ended returns a context that has ended because of err.
func ended(ctx context.Context, err error) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(err)
	return ctx
}

// PrepareContext prepares a statement on the connection. The Tx does not see the calls of
// the statement, so it asks the server before the next statement that it sees.
func (t *Tx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	if t.unchain != nil {
		return nil, t.leaveChain()
	}
	statement, err := t.tx.PrepareContext(ctx, query)
	t.record(ctx, err)
	t.askBeforeNext(false)
	return statement, err
}

// StmtContext is called by gorm before each call of a prepared statement; see
// [sql.Tx.StmtContext]. If the transaction is over, the returned statement fails.
func (t *Tx) StmtContext(ctx context.Context, statement *sql.Stmt) *sql.Stmt {
	if err := t.ready(ctx); err != nil {
		return t.tx.StmtContext(ended(ctx, err), statement)
	}
	if t.twoPhase {
		return t.tx.StmtContext(failedContext{ended(ctx, errPrepareStmt)}, statement)
	}
	if t.unchain != nil {
		return t.tx.StmtContext(failedContext{ended(ctx, t.leaveChain())}, statement)
	}
	t.askBeforeNext(false)
	return t.tx.StmtContext(ctx, statement)
}

// leaveChain ends the local transaction, which runs again on a connection without a chain.
func (t *Tx) leaveChain() error {
	t.unchain()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.aborted == nil {
		t.aborted = errChained
	}
	return errChained
}

// Commit refuses: only [Run] commits.
func (t *Tx) Commit() error { return errOwned }

// Rollback refuses: only [Run] rolls back.
func (t *Tx) Rollback() error { return errOwned }

// askBeforeNext makes the Tx ask the server before the next statement. PostgreSQL needs no
// question, because it refuses statements after an error by itself.
func (t *Tx) askBeforeNext(lockingRead bool) {
	if t.dialect == dialect.Postgres {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mustAsk, t.lockingRead = true, lockingRead
}

// aliveTimeout limits the check of a connection.
const aliveTimeout = time.Second

// lost reports whether err is from this connection, which is lost, and not from another
// connection of user code.
func (t *Tx) lost(ctx context.Context, err error) bool {
	if !looksLost(err) || t.answered(err) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), aliveTimeout)
	defer cancel()
	_, askErr := t.tx.ExecContext(ctx, "SELECT 1")
	return askErr != nil && t.answered(askErr) == nil
}
