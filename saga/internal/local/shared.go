package local

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// ErrLockWait is wrapped by the error of RunShared when it has waited too long
// for a lock.
var ErrLockWait = errors.New("a lock was held too long by somebody else")

// RunShared is Run for the work of several callers, of which perhaps only one
// needs a lock that somebody else holds for long: it waits for each lock at
// most one second, and does not try again. SQLite has only one lock, which
// everybody needs; for that its busy timeout holds.
func RunShared(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	err := run(ctx, db, func(tx *gorm.DB) error { return impatiently(tx, work) }, func(err error) bool {
		return Passing(err) && !errors.Is(err, ErrCommitUnknown) && !waitedTooLong(err)
	})
	if err != nil && waitedTooLong(err) {
		return fmt.Errorf("%w: %w", ErrLockWait, err)
	}
	return err
}

// impatiently does work in tx with the time limit for lock waits. MySQL knows
// it in whole seconds, and for the connection, which goes back to the pool as it
// was.
func impatiently(tx *gorm.DB, work func(tx *gorm.DB) error) error {
	var limit, restore string
	switch dialect.Dialect(tx.Dialector.Name()) {
	case dialect.MySQL:
		limit = "SET @tccsaga_lock_wait = @@innodb_lock_wait_timeout, innodb_lock_wait_timeout = 1"
		restore = "SET innodb_lock_wait_timeout = @tccsaga_lock_wait"
	case dialect.Postgres:
		limit = "SET LOCAL lock_timeout = '1s'"
	}
	pool, ctx := tx.Statement.ConnPool, tx.Statement.Context
	if limit != "" {
		if _, err := pool.ExecContext(ctx, limit); err != nil {
			return fmt.Errorf("limiting lock waits: %w", err)
		}
	}
	err := work(tx)
	if restore != "" {
		if _, restoreErr := pool.ExecContext(ctx, restore); restoreErr != nil && err == nil {
			return fmt.Errorf("restoring the limit of lock waits: %w", restoreErr)
		}
	}
	return err
}

// waitedTooLong says whether err is MySQL's 1205 or PostgreSQL's 55P03.
func waitedTooLong(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		return number == 1205
	}
	state, ok := sqlState(err)
	return ok && state == "55P03"
}
