package barrier

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// ErrDatabase is wrapped by the error of [Transaction] if the database failed, and
// not the work: it could not be reached, it went away, or nobody knows whether it
// has committed. The same work may succeed later.
var ErrDatabase = errors.New("the database failed")

// ErrNotCommitted is wrapped by the error of [Transaction] if the database refused
// to commit because of what work had done: a deferred constraint is violated, or
// work kept the error of a statement to itself on PostgreSQL. All is rolled back.
var ErrNotCommitted = local.ErrCommitRefused

// Transient reports whether err is a fault of a database after which the same work may
// succeed at once: a deadlock, a serialization failure, a lock that was waited for too
// long, a server that is shutting down. [Transaction] and [Do] then run work again.
func Transient(err error) bool { return local.Transient(err) }

// Transaction runs work in a local transaction on db, without a barrier row, and
// commits it. It is for code that keeps a record of its own of what it has done,
// such as an inbox. See [Do] for a branch.
//
// The isolation level is READ COMMITTED; SQLite is serializable. A deadlock, a
// serialization failure or a lost connection rolls back and runs work again, at
// most ten times, with growing pauses of at most 0.4 seconds. So work must keep
// nothing from a run that failed.
//
// The handle that work gets is a session of db on the local transaction. It sends
// nothing more after the database has rolled back by itself, as MySQL does after a
// deadlock, also if work keeps the error to itself: Transaction then runs work
// again, and does not commit the rest of it. The handle refuses statements that
// would end the local transaction.
//
// An error of work rolls back and is returned as it is. The other errors wrap
// [ErrDatabase] or [ErrNotCommitted], or are the one of ctx, whose end rolls back.
// If the connection is lost during COMMIT, the work may have been committed or
// not: the error then wraps ErrDatabase.
//
// A panic of work rolls back and goes on, and so does runtime.Goexit.
func Transaction(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error) error {
	return transaction(ctx, db, work, func(ctx context.Context, work func(tx *gorm.DB) error) error { return local.Run(ctx, db, work) })
}

// Transactions runs local transactions as [Transaction] does, one after the other or
// several at once. On MySQL it keeps connections of its own out of the pool, at most
// a quarter of it, and for half a minute without use, on which the isolation level is
// set: that saves a round trip each time. It is safe for concurrent use.
type Transactions struct {
	db   *gorm.DB
	kept *local.Shared
}

// NewTransactions returns Transactions on db, of which about that many run at once.
// [Transactions.Close] gives its connections up.
func NewTransactions(db *gorm.DB, atOnce int) (*Transactions, error) {
	kept, err := local.NewKept(db, atOnce)
	if err != nil {
		return nil, fmt.Errorf("barrier: %w", err)
	}
	return &Transactions{db, kept}, nil
}

// Run is [Transaction].
func (t *Transactions) Run(ctx context.Context, work func(tx *gorm.DB) error) error {
	return transaction(ctx, t.db, work, t.kept.Run)
}

// Close closes the connections that are kept. Run may still be called, and keeps none.
func (t *Transactions) Close() { t.kept.Close() }

func transaction(ctx context.Context, db *gorm.DB, work func(tx *gorm.DB) error, run func(context.Context, func(tx *gorm.DB) error) error) error {
	var own error // of work, in the last run
	err := run(ctx, func(tx *gorm.DB) error {
		own = work(local.Guest(ctx, db, tx))
		return own
	})
	switch {
	case err == nil, errors.Is(err, ErrNotCommitted):
		return err
	case errors.Is(err, local.ErrUnavailable), errors.Is(err, local.ErrCommitUnknown):
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	case own != nil, ctx.Err() != nil:
		return err
	default:
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	}
}
