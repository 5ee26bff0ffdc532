// Package local runs local transactions at READ COMMITTED. It retries transient faults a
// bounded number of times, reports a COMMIT with an unknown result, and detects with a
// [Tx] that the server has ended the transaction by itself.
//
// It uses a bounded share of a connection pool, see [Share], to leave connections for the
// user's own queries and the heartbeat.
//
// An error says what failed, without the name of a package: the caller adds it.
package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
)

// ErrCommitUnknown is wrapped by the error of a transaction if the COMMIT was sent and not
// answered: it may have happened, or may still happen. To find out, read the written rows
// with a lock, or write them again.
var ErrCommitUnknown = errors.New("the connection was lost during COMMIT: it may or may not have happened")

// ErrCommitRefused is wrapped by the error of a transaction if the database refused the
// COMMIT for a permanent reason. The transaction is rolled back.
var ErrCommitRefused = errors.New("the database refused to commit")

// ErrUnavailable is wrapped by the error of a transaction that failed because the database
// could not be reached or the connection was lost, whatever error work returned.
var ErrUnavailable = errors.New("the database cannot be reached, or the connection was lost")

// Limits of the retry of transient faults.
const (
	maxRuns    = 10
	firstPause = 4 * time.Millisecond
	maxPause   = 400 * time.Millisecond
)

// Run runs work in a local transaction on db and commits it. After a transient fault of
// this database, in work or at COMMIT, it rolls back and runs work again. So work must
// keep nothing from a run that failed. Every other error of work rolls back and is
// returned as it is.
//
// The handle that work gets is the framework's own. For user code, see [UserHandle].
//
// The end of ctx interrupts the statement under way and rolls back. It does not interrupt
// a COMMIT that was sent.
//
// On SQLite, the local transactions of a process on the same database run one after the
// other, in the order of their arrival.
func Run(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	return run(ctx, func() (again bool, err error) {
		return once(ctx, db, func(ctx context.Context) (*connection, error) { return connect(ctx, db) }, work)
	})
}

// run calls once, and again while it returns true, at most maxRuns times.
func run(ctx context.Context, once func() (again bool, err error)) error {
	var err error
	for run := range maxRuns {
		if run > 0 && !pause(ctx, run) {
			break
		}
		var again bool
		if again, err = once(); !again {
			return err
		}
	}
	return fmt.Errorf("gave up after repeated faults of the database: %w", err)
}

// pause waits before the run-th repetition. It returns false if ctx ends.
func pause(ctx context.Context, run int) bool {
	timer := time.NewTimer(jitter.UpTo(ctx, min(firstPause<<run, maxPause)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// connection is a connection for one local transaction, until it is released.
type connection struct {
	pool     *sql.DB
	conn     *sql.Conn
	options  *sql.TxOptions
	twoPhase bool     // see Tx
	session  *session // of a Shared
	unchain  func()   // see Tx
	mark     uint32   // see Shared.SetMark
	release  func(unusable bool)
}

var readCommitted = &sql.TxOptions{Isolation: sql.LevelReadCommitted}

// connect takes a connection out of the pool of db.
func connect(ctx context.Context, db *gorm.DB) (*connection, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	options := readCommitted
	var leave func()
	if dialectOf(db) == dialect.SQLite {
		options = nil // SQLite is serializable, and its drivers have no other level
		leave, err = enter(ctx, pool)
	} else {
		leave, err = shareOf(pool).take(ctx)
	}
	if err != nil {
		return nil, err
	}
	return pooled(ctx, pool, options, leave)
}

// pooled takes a connection out of pool, until whose release nobody leaves.
func pooled(ctx context.Context, pool *sql.DB, options *sql.TxOptions, leave func()) (*connection, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return &connection{pool: pool, conn: conn, options: options, release: func(unusable bool) {
		if unusable {
			discard(conn)
		}
		conn.Close()
		leave()
	}}, nil
}

// discard makes the pool close a connection instead of using it again.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// once runs work once. It returns true with an error if another run may succeed.
func once(ctx context.Context, db *gorm.DB, connect func(context.Context) (*connection, error), work func(tx *gorm.DB) error) (again bool, err error) {
	c, err := connect(ctx)
	if err != nil {
		return beginAgain(err), fmt.Errorf("begin: %w", err)
	}
	if err = ctx.Err(); err != nil {
		c.release(false)
		return false, fmt.Errorf("begin: %w", err)
	}
	t, err := begin(ctx, dialectOf(db), c)
	if err != nil {
		c.release(c.session != nil) // the state of its chain is not known
		return beginAgain(err), fmt.Errorf("begin: %w", err)
	}
	defer func() { c.release(t.isUnusable()) }()
	finished := false
	defer func() {
		if !finished { // an error, or a panic of work
			t.rollBack()
		}
	}()
	if err := work(raw(ctx, db, t)); err != nil {
		return t.classify(ctx, err)
	}
	if err := Expired(ctx); err != nil {
		return false, err
	}
	if err := t.ready(ctx); err != nil {
		return t.classify(ctx, fmt.Errorf("commit: %w", err))
	}
	finished = true
	return t.commit(ctx)
}

func beginAgain(err error) bool { return Transient(err) || looksLost(err) }

// classify returns whether to run again after err, and err, which wraps ErrUnavailable if
// the connection is lost.
func (t *Tx) classify(ctx context.Context, err error) (again bool, classified error) {
	if !t.retryable(ctx, err) {
		return false, err
	}
	t.mu.Lock()
	aborted := t.aborted
	t.mu.Unlock()
	if looksLost(err) || unavailable(err) || aborted != nil && (looksLost(aborted) || unavailable(aborted)) {
		return true, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return true, err
}

// retryable reports whether err is a transient fault of this database.
func (t *Tx) retryable(ctx context.Context, err error) bool {
	t.mu.Lock()
	aborted, failure := t.aborted, t.failure
	t.mu.Unlock()
	switch {
	case errors.Is(aborted, errChained), aborted != nil && looksLost(aborted) && ctx.Err() == nil: // also if the branch rejects because of it
		return true
	case rejected(err):
		return false
	case Transient(err), Aborted(err) && Transient(failure): // the failure was ignored before
		return true
	case aborted != nil:
		return Transient(aborted) || errors.Is(aborted, errDeadlock) || looksLost(aborted) && ctx.Err() == nil
	default:
		return t.lost(ctx, err)
	}
}

// commit commits. It returns true with an error if another run may succeed.
func (t *Tx) commit(ctx context.Context) (again bool, err error) {
	err = t.tx.Commit()
	if err == nil {
		return false, nil
	}
	if t.dialect == dialect.SQLite {
		// A refused COMMIT leaves SQLite in the transaction.
		_, _ = t.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	t.mu.Lock()
	failure := t.failure
	t.mu.Unlock()
	answer := commitFailed(err)
	if number, ok := mysqlNumber(err); ok && t.unchain != nil && (number == 1205 || number == 1235) {
		answer = commitUnknown // Galera commits, and then cannot begin the next one: see wsrep_sync_wait
	}
	switch {
	case answer == commitTransient, answer == commitRefused && Transient(failure):
		return true, fmt.Errorf("commit: %w", err)
	case answer == commitRefused:
		return false, fmt.Errorf("%w: %w", ErrCommitRefused, err)
	default:
		t.unusable = true
		tellUnanswered(ctx)
		return false, fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
}

// rollBack rolls back. If another goroutine does so, the connection must not be used before that
// has ended: it is closed, which waits.
func (t *Tx) rollBack() {
	if errors.Is(t.tx.Rollback(), sql.ErrTxDone) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.unusable = true
	}
}

// Expired returns why ctx has ended. It also checks the deadline: in a process that was
// paused, the timer of ctx may be late.
func Expired(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) && ctx.Err() == nil {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

// begin begins a transaction that does not depend on ctx afterwards. Otherwise package
// database/sql would roll it back in another goroutine at the end of ctx, even during
// COMMIT.
func begin(ctx context.Context, d dialect.Dialect, c *connection) (*Tx, error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	tx, err := c.conn.BeginTx(own, c.options)
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	if !stop() {
		tx.Rollback()
		cancel()
		return nil, ctx.Err()
	}
	release := c.release
	c.release = func(unusable bool) { cancel(); release(unusable) }
	return &Tx{pool: c.pool, conn: c.conn, tx: tx, dialect: d, twoPhase: c.twoPhase, unchain: c.unchain}, nil
}
