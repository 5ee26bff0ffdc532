// Package local runs local transactions: READ COMMITTED, with a bounded retry
// of passing faults, and with an honest answer when a connection is lost during
// COMMIT.
package local

import (
	"context"
	"database/sql"
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

// Bounds of the retry of passing faults.
const (
	maxRuns   = 10
	firstWait = 4 * time.Millisecond
	maxWait   = 400 * time.Millisecond
)

// Run runs work in a local transaction on db and commits it. A passing fault,
// in work or at COMMIT, rolls back and runs work again, so work must keep
// nothing from a run that failed. Every other error of work rolls back and is
// returned as it is.
//
// The end of ctx ends the statement under way and rolls back, but does not
// break into a COMMIT that was already sent.
//
// On SQLite, those of one process that write to the same database take turns,
// first come, first served.
func Run(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	return run(ctx, func() error { return once(ctx, db, readCommitted, work) },
		func(err error) bool { return Passing(err) && !errors.Is(err, ErrCommitUnknown) })
}

// run calls once, and again as often as again says and is worth it.
func run(ctx context.Context, once func() error, again func(error) bool) error {
	var err error
	for run := range maxRuns {
		if run > 0 && !wait(ctx, run) {
			break
		}
		if err = once(); !again(err) {
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

var readCommitted = &sql.TxOptions{Isolation: sql.LevelReadCommitted}

// once runs work once; nil options are those of the connection.
func once(ctx context.Context, db *gorm.DB, options *sql.TxOptions, work func(tx *gorm.DB) error) error {
	leave, err := enter(ctx, db)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer leave()
	tx, end, err := begin(ctx, db, options)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer end()
	finished := false
	defer func() {
		if !finished { // an error, or a panic of work
			tx.Rollback()
		}
	}()
	if err := work(tx.WithContext(ctx)); err != nil {
		return err
	}
	if err := Over(ctx); err != nil {
		return err
	}
	finished = true
	if err := tx.Commit().Error; err != nil {
		switch {
		case Passing(err) && answered(err):
			return fmt.Errorf("commit: %w", err)
		case answered(err):
			return fmt.Errorf("commit: %w: %w", ErrCommitRefused, err)
		}
		return fmt.Errorf("commit: %w: %w", ErrCommitUnknown, err)
	}
	return nil
}

// Over returns why ctx has ended, or should have: in a process that was stopped
// for a while, its timer may not have come yet.
func Over(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) && ctx.Err() == nil {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

// begin waits for a connection as long as ctx allows, and then takes the
// transaction out of ctx's hands: database/sql would otherwise roll it back
// from another goroutine at any moment, also during COMMIT. The caller calls
// end when the transaction is over.
func begin(ctx context.Context, db *gorm.DB, options *sql.TxOptions) (tx *gorm.DB, end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	session := db.Session(&gorm.Session{NewDB: true, Context: own})
	if options == nil || db.Dialector.Name() == string(dialect.SQLite) {
		tx = session.Begin() // SQLite is serializable, and its drivers know no other level
	} else {
		tx = session.Begin(options)
	}
	if err := tx.Error; err != nil {
		stop()
		cancel()
		return nil, nil, err
	}
	if !stop() {
		tx.Rollback()
		cancel()
		return nil, nil, ctx.Err()
	}
	return tx, cancel, nil
}
