// Package local runs local transactions: READ COMMITTED, with a bounded retry of
// transient faults, an honest answer when a connection is lost during COMMIT, and
// a [Tx] that notices when the server has ended the transaction by itself.
//
// It uses a bounded share of a connection pool, see [Share], so that the user's
// own queries and the heartbeat find a connection.
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

// ErrCommitUnknown is wrapped by the error of a transaction whose COMMIT was
// sent and not answered: it may have happened, or may happen yet. Whoever gets
// it has to ask the rows that were written, with a locking read or by writing
// them again.
var ErrCommitUnknown = errors.New("the connection was lost during COMMIT: it may or may not have happened")

// ErrCommitRefused is wrapped by the error of a transaction that the database
// refused to commit, for a reason that does not pass: it is rolled back.
var ErrCommitRefused = errors.New("the database refused to commit")

// ErrUnavailable is wrapped by the error of a transaction that was given up
// because the database could not be reached or went away, whatever work said.
var ErrUnavailable = errors.New("the database cannot be reached, or went away")

// Bounds of the retry of transient faults.
const (
	maxRuns   = 10
	firstWait = 4 * time.Millisecond
	maxWait   = 400 * time.Millisecond
)

// Run runs work in a local transaction on db and commits it. A transient fault of
// this database, in work or at COMMIT, rolls back and runs work again, so work
// must keep nothing from a run that failed. Every other error of work rolls back
// and is returned as it is.
//
// The handle that work gets is the framework's own; see [Guest] for user code.
//
// The end of ctx ends the statement under way and rolls back, but does not break
// into a COMMIT that was already sent.
//
// On SQLite, those of one process that write to the same database take turns,
// first come, first served.
func Run(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	return run(ctx, func() (again bool, err error) {
		return once(ctx, db, func(ctx context.Context) (*connection, error) { return connect(ctx, db) }, work)
	})
}

// run calls once, and again as often as it says and is worth it.
func run(ctx context.Context, once func() (again bool, err error)) error {
	var err error
	for run := range maxRuns {
		if run > 0 && !wait(ctx, run) {
			break
		}
		var again bool
		if again, err = once(); !again {
			return err
		}
	}
	return fmt.Errorf("gave up after repeated faults of the database: %w", err)
}

// wait pauses before the run-th repetition; false says that ctx ended.
func wait(ctx context.Context, run int) bool {
	timer := time.NewTimer(jitter.UpTo(ctx, min(firstWait<<run, maxWait)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// connection is one that a local transaction has for itself, until it is released.
type connection struct {
	conn    *sql.Conn
	options *sql.TxOptions
	release func(spoiled bool)
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
		options = nil // SQLite is serializable, and its drivers know no other level
		leave, err = enter(ctx, pool)
	} else {
		leave, err = shareOf(pool).take(ctx)
	}
	if err != nil {
		return nil, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return &connection{conn, options, func(spoiled bool) {
		if spoiled {
			discard(conn)
		}
		conn.Close()
		leave()
	}}, nil
}

// discard lets the pool close a connection instead of using it again.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// once runs work once, and says whether a transient fault kept it from success.
func once(ctx context.Context, db *gorm.DB, connect func(context.Context) (*connection, error), work func(tx *gorm.DB) error) (again bool, err error) {
	c, err := connect(ctx)
	if err != nil {
		return beginAgain(err), fmt.Errorf("begin: %w", err)
	}
	t, err := begin(ctx, dialectOf(db), c)
	if err != nil {
		c.release(false)
		return beginAgain(err), fmt.Errorf("begin: %w", err)
	}
	defer func() { c.release(t.isSpoiled()) }()
	finished := false
	defer func() {
		if !finished { // an error, or a panic of work
			t.tx.Rollback()
		}
	}()
	if err := work(raw(ctx, db, t)); err != nil {
		return t.judge(ctx, err)
	}
	if err := Expired(ctx); err != nil {
		return false, err
	}
	if err := t.ready(ctx); err != nil {
		return t.judge(ctx, fmt.Errorf("commit: %w", err))
	}
	finished = true
	return t.commit(ctx)
}

func beginAgain(err error) bool { return Transient(err) || looksLost(err) }

// judge says whether a run that failed with err is worth another one, and returns
// err, with ErrUnavailable if the connection is gone.
func (t *Tx) judge(ctx context.Context, err error) (again bool, judged error) {
	if !t.again(ctx, err) {
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

// again says whether a run that failed with err is worth another one: the fault
// is this database's, and passes.
func (t *Tx) again(ctx context.Context, err error) bool {
	t.mu.Lock()
	aborted := t.aborted
	t.mu.Unlock()
	switch {
	case rejected(err):
		return false
	case Transient(err):
		return true
	case aborted != nil:
		return Transient(aborted) || errors.Is(aborted, errDeadlock) || looksLost(aborted) && ctx.Err() == nil
	default:
		return t.lost(ctx, err)
	}
}

// commit commits, and says whether another run may succeed where it failed.
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
	switch answer := commitFailed(err); {
	case answer == commitTransient, answer == commitRefused && Transient(failure):
		return true, fmt.Errorf("commit: %w", err)
	case answer == commitRefused:
		return false, fmt.Errorf("commit: %w: %w", ErrCommitRefused, err)
	default:
		t.spoiled = true
		return false, fmt.Errorf("commit: %w: %w", ErrCommitUnknown, err)
	}
}

// Expired returns why ctx has ended, or should have: in a process that was stopped
// for a while, its timer may not have come yet.
func Expired(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) && ctx.Err() == nil {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

// begin begins a transaction, and then takes it out of the hands of ctx:
// database/sql would otherwise roll it back from another goroutine at any moment,
// also during COMMIT.
func begin(ctx context.Context, d dialect.Dialect, c *connection) (*Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
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
	c.release = func(spoiled bool) { cancel(); release(spoiled) }
	return &Tx{conn: c.conn, tx: tx, dialect: d}, nil
}
