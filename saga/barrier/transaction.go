package barrier

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// ErrDatabase is wrapped by the error of [Transaction] if the database failed, and
// not the work: it could not be reached, the connection was lost, or the result of the
// COMMIT is unknown. The same work may succeed later.
var ErrDatabase = errors.New("the database failed")

// ErrNotCommitted is wrapped by the error of [Transaction] if the database refused
// the COMMIT because of the work: a deferred constraint is violated, or work ignored
// the error of a statement on PostgreSQL. Everything is rolled back.
var ErrNotCommitted = local.ErrCommitRefused

// Transient reports whether err is a transient fault of a database: a deadlock, a
// serialization failure, a lock wait that took too long, or a server that shuts down.
// The same work may succeed at once. [Transaction] and [Do] then run work again.
func Transient(err error) bool { return local.Transient(err) }

// Transaction runs work in a local transaction on db, without a barrier row, and
// commits it. It is for code that keeps its own record of its work, such as an inbox.
// For a branch, use [Do].
//
// The isolation level is READ COMMITTED; SQLite is serializable. After a deadlock, a
// serialization failure or a lost connection, Transaction rolls back and runs work
// again, at most ten times, with growing pauses of at most 0.4 seconds. So work must
// keep nothing from a run that failed.
//
// The handle that work gets is a session of db on the local transaction. It sends
// nothing more after the database has rolled back by itself, as MySQL does after a
// deadlock. If work ignores that error, Transaction runs work again and does not commit
// the rest. The handle refuses statements that would end the local transaction.
//
// An error of work rolls back and is returned as it is. Every other error wraps
// [ErrDatabase], [ErrNotCommitted], or the error of ctx; the end of ctx rolls back.
// If the connection is lost during COMMIT, the work may or may not be committed, and
// the error wraps ErrDatabase.
//
// A panic of work, or runtime.Goexit, rolls back and continues.
func Transaction(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	return transaction(ctx, db, work, func(ctx context.Context, work func(tx *gorm.DB) error) error { return local.Run(ctx, db, work) })
}

// Transactions runs local transactions as [Transaction] does, one after the other or
// several at once. On MySQL it keeps connections of the pool on which the isolation
// level is set, and on which a COMMIT begins the next local transaction. This saves two
// round trips for each. It keeps at most a quarter of the pool, and each connection for
// half a minute without use. It is safe for concurrent use.
type Transactions struct {
	db   *gorm.DB
	kept *local.Shared
}

// NewTransactions returns Transactions on db for about atOnce concurrent local
// transactions. [Transactions.Close] closes the connections that it keeps.
func NewTransactions(db *gorm.DB, atOnce int) (*Transactions, error) {
	kept, err := local.NewKept(db, atOnce)
	if err != nil {
		return nil, fmt.Errorf("barrier: new transactions: %w", err)
	}
	return &Transactions{db, kept}, nil
}

// Run runs work as [Transaction] does.
func (t *Transactions) Run(ctx context.Context, work func(tx *gorm.DB) error) error {
	return transaction(ctx, t.db, work, t.kept.Run)
}

// Close closes the kept connections. Run may still be called; it keeps no connections.
func (t *Transactions) Close() { t.kept.Close() }

func transaction(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error, run func(context.Context, func(tx *gorm.DB) error) error) error {
	var own error // of work, in the last run
	err := run(ctx, func(tx *gorm.DB) error {
		own = work(local.UserHandle(ctx, db, tx))
		return own
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, local.ErrUnavailable), errors.Is(err, local.ErrCommitUnknown):
		return fmt.Errorf("barrier: transaction: %w: %w", ErrDatabase, err)
	case own != nil:
		return err
	case errors.Is(err, ErrNotCommitted), ctx.Err() != nil:
		return fmt.Errorf("barrier: transaction: %w", err)
	default:
		return fmt.Errorf("barrier: transaction: %w: %w", ErrDatabase, err)
	}
}
