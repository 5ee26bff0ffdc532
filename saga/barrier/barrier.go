package barrier

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// ErrUnnamed is wrapped by a Try whose transaction is in the log of the same
// database, where no such branch is named. It would reserve something, and nobody
// would ever confirm or cancel it.
var ErrUnnamed = errors.New("the transaction is in the log of this database, and no such branch is named there: add it with the Try of the transaction, which names it first")

// Call writes the call into the barrier row of the branch, in the local
// transaction tx, and returns the verdict. It neither commits nor rolls back:
// the caller does the work if the verdict is [Run], and then commits, so that
// the row and the work are one.
//
// It is for a service whose branches an engine elsewhere calls, and which opens
// the local transaction itself: that engine has named the branch in its log
// before it calls. A program that has the engine itself adds a branch with the Try
// of the transaction, as package tcc has it; Call then returns [ErrUnnamed]. Open the
// local transaction at READ COMMITTED: at REPEATABLE READ, MySQL locks the place in the
// log where a gid would be that is not there, and PostgreSQL does not see what was begun
// after the snapshot.
//
// The verdicts Suspended and Conflict come with an error that wraps
// [ErrSuspended] or [ErrConflict]. A caller that wants such a call counted
// commits all the same. After any other error the verdict is empty and the
// caller rolls back; if the fault was a deadlock or the like, it may run its
// local transaction again.
func Call(ctx context.Context, tx *gorm.DB, request Request) (Verdict, error) {
	verdict, err := call(ctx, tx, request)
	if err != nil {
		return verdict, fmt.Errorf("barrier: %s of %s: %w", request.Op, request.Key, err)
	}
	return verdict, nil
}

// Do runs one branch call in a local transaction of its own on db, at READ
// COMMITTED: barrier first, then work if the verdict is [Run], then the
// commit. Deadlocks and other transient faults of the database are retried a
// bounded number of times, so work may run more than once; only the run that
// is committed counts.
//
// The handle that work gets is a session of db on the local transaction. It sends
// nothing more after the database has rolled back by itself, as MySQL does after a
// deadlock, and refuses statements that would end the local transaction.
//
// An error of work rolls all back and is returned as it is. Suspended and
// Conflict come with an error as they do from [Call], after the count of calls
// turned away is committed.
//
// After a connection was lost during COMMIT nobody can say whether the call
// took effect; calling Do again finds out.
func Do(ctx context.Context, db *gorm.DB, request Request, work func(tx *gorm.DB) error) (Verdict, error) {
	var verdict Verdict
	var refused error
	err := local.Run(ctx, db, func(tx *gorm.DB) (err error) {
		if request.Op == Try {
			if err = named(ctx, tx, request); err != nil {
				return fmt.Errorf("barrier: %s of %s: %w", request.Op, request.Key, err)
			}
		}
		verdict, err = Call(ctx, tx, request)
		if refused = nil; errors.Is(err, ErrSuspended) || errors.Is(err, ErrConflict) {
			refused = err
			return nil
		}
		if err != nil || verdict != Run {
			return err
		}
		// What work opens on the handle, such as a plain *sql.Tx, ends with it.
		workCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		return work(local.Guest(workCtx, db, tx))
	})
	if err != nil {
		return "", err
	}
	return verdict, refused
}

func call(ctx context.Context, tx *gorm.DB, request Request) (Verdict, error) {
	if err := request.Validate(); err != nil {
		return "", err
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return "", err
	}
	if !local.InTransaction(tx) {
		return "", errors.New("the database handle is not in a transaction: call it with the tx of db.Transaction or db.Begin")
	}
	r := row{ctx, tx.Statement.ConnPool, statements[d], request}
	switch request.Op {
	case Try:
		if !local.IsFrameworks(tx) {
			if err := named(ctx, tx, request); err != nil {
				return "", err
			}
		}
		return r.try()
	case Confirm:
		return r.confirm()
	default:
		return r.cancel()
	}
}

// row is the barrier row of one branch, in one local transaction.
type row struct {
	ctx     context.Context
	pool    gorm.ConnPool
	sql     queries
	request Request
}

// named returns ErrUnnamed if the log is here and does not name the branch.
func named(ctx context.Context, tx *gorm.DB, request Request) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	r := row{ctx, tx.Statement.ConnPool, statements[d], request}
	var unnamed int
	if err := r.one(r.sql.unnamed, r.key(), &unnamed); err != nil {
		return err
	}
	if unnamed > 0 {
		return ErrUnnamed
	}
	return nil
}

func (r row) try() (Verdict, error) {
	inserted, err := r.insert(r.sql.insertTried)
	if err != nil {
		return "", err
	}
	if inserted {
		return Run, nil
	}
	state, err := r.turnedAway()
	switch {
	case errors.Is(err, ErrConflict):
		return Conflict, err
	case err != nil:
		return "", err
	case state == StateSuspended || state == StateCancelled:
		return Suspended, ErrSuspended
	default:
		return Duplicate, nil
	}
}

func (r row) confirm() (Verdict, error) {
	changed, err := r.update(r.sql.confirm, r.all())
	if err != nil {
		return "", err
	}
	if changed {
		return Run, nil
	}
	found, err := r.update(r.sql.turnAway, r.key())
	if err != nil {
		return "", err
	}
	if !found {
		return Conflict, fmt.Errorf("%w: Confirm came, but Try never ran", ErrConflict)
	}
	state, err := r.turnedAway()
	switch {
	case errors.Is(err, ErrConflict):
		return Conflict, err
	case err != nil:
		return "", err
	case state == StateConfirmed:
		return Duplicate, nil
	default:
		return Conflict, fmt.Errorf("%w: Confirm came, but the branch is %s", ErrConflict, state)
	}
}

func (r row) cancel() (Verdict, error) {
	inserted, err := r.insert(r.sql.insertSuspended)
	if err != nil || inserted {
		return EmptyRollback, err
	}
	// The row is there and locked, and counts this call as turned away; if it
	// is tried, the call was not, and the count is taken back.
	changed, err := r.update(r.sql.cancel, r.all())
	if err != nil {
		return "", err
	}
	if changed {
		return Run, nil
	}
	state, err := r.turnedAway()
	switch {
	case errors.Is(err, ErrConflict):
		return Conflict, err
	case err != nil:
		return "", err
	case state == StateConfirmed:
		return Conflict, fmt.Errorf("%w: Cancel came, but the branch is confirmed", ErrConflict)
	default:
		return Duplicate, nil
	}
}

// key and all are the arguments that statements take.
func (r row) key() []any { return []any{r.request.GID, r.request.BranchID} }

func (r row) all() []any {
	return append(r.key(), r.request.caller(), r.request.Kind, Digest(r.request.Input))
}

// insert writes a new row, or counts a call turned away on the row that is
// there; either way the row is locked afterwards.
func (r row) insert(query string) (inserted bool, err error) {
	if r.sql.affectedTells {
		// MySQL's manual, INSERT ... ON DUPLICATE KEY UPDATE: 1 row affected
		// is an insert, 2 an update, with and without clientFoundRows.
		return r.update(query, r.all())
	}
	var turnedAway int
	err = r.one(query, r.all(), &turnedAway)
	return turnedAway == 0, err
}

func (r row) update(query string, arguments []any) (changed bool, err error) {
	result, err := r.pool.ExecContext(r.ctx, query, arguments...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// turnedAway notes when a call was turned away and returns the state of the
// row, or a conflict if the row is of another call. This transaction has written
// the row and so locked it: even an old snapshot shows a transaction its own
// writes.
func (r row) turnedAway() (State, error) {
	if _, err := r.update(r.sql.stamp, r.key()); err != nil {
		return "", err
	}
	var state State
	var caller, kind, input string
	err := r.one(r.sql.state, r.key(), &state, &caller, &kind, &input)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", errors.New("the barrier row was deleted while it was in use")
	case err != nil:
		return "", err
	}
	return state, mismatch(r.request, caller, kind, input)
}

// mismatch is a conflict if a row is of another caller, kind or input than a request.
func mismatch(request Request, caller, kind, input string) error {
	switch {
	case caller != "" && caller != request.caller():
		return fmt.Errorf("%w: the gid is in use here by another caller: the row is of %s, and the call of %s; give each engine gids of its own", ErrConflict, described(caller), described(request.caller()))
	case kind != "" && kind != request.Kind:
		return fmt.Errorf("%w: the branch is of the kind %s, and the call of %s", ErrConflict, kind, described(request.Kind))
	case input != "" && input != Digest(request.Input):
		return fmt.Errorf("%w: the branch was called with another payload before", ErrConflict)
	}
	return nil
}

// described is how a name is shown that may be missing.
func described(name string) string {
	if name == NoCaller || name == "" || name == "@" { // "@" precedes the names of callers from elsewhere
		return "one that does not say its name"
	}
	return name
}

// one reads the only row that a query has. QueryRowContext of gorm's prepared
// statements would panic where the connection is lost.
func (r row) one(query string, arguments []any, values ...any) error {
	rows, err := r.pool.QueryContext(r.ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(rows.Err(), sql.ErrNoRows)
	}
	if err := rows.Scan(values...); err != nil {
		return err
	}
	return rows.Close()
}
