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

// Call writes the call into the barrier row of the branch, in the local
// transaction tx, and returns the verdict. It neither commits nor rolls back:
// the caller does the work if the verdict is [Run], and then commits, so that
// the row and the work are one.
//
// The verdicts Suspended and Conflict come with an error that wraps
// [ErrSuspended] or [ErrConflict]. A caller that wants such a call counted
// commits all the same. After any other error the verdict is empty and the
// caller rolls back; if the fault was a deadlock or the like, it may run its
// local transaction again.
func Call(ctx context.Context, tx *gorm.DB, key Key, op Op) (Verdict, error) {
	verdict, err := call(ctx, tx, key, op)
	if err != nil {
		return verdict, fmt.Errorf("barrier: %s of %s: %w", op, key, err)
	}
	return verdict, nil
}

// Do runs one branch call in a local transaction of its own on db, at READ
// COMMITTED: barrier first, then work if the verdict is [Run], then the
// commit. Deadlocks and other passing faults of the database are retried a
// bounded number of times, so work may run more than once; only the run that
// is committed counts.
//
// An error of work rolls all back and is returned as it is. Suspended and
// Conflict come with an error as they do from [Call], after the count of calls
// turned away is committed.
//
// After a connection was lost during COMMIT nobody can say whether the call
// took effect; calling Do again finds out.
func Do(ctx context.Context, db *gorm.DB, key Key, op Op, work func(tx *gorm.DB) error) (Verdict, error) {
	var verdict Verdict
	var refused error
	err := local.Run(ctx, db, func(tx *gorm.DB) (err error) {
		verdict, err = Call(ctx, tx, key, op)
		if refused = nil; errors.Is(err, ErrSuspended) || errors.Is(err, ErrConflict) {
			refused = err
			return nil
		}
		if err != nil || verdict != Run {
			return err
		}
		return work(tx)
	})
	if err != nil {
		return "", err
	}
	return verdict, refused
}

func call(ctx context.Context, tx *gorm.DB, key Key, op Op) (Verdict, error) {
	if err := key.Validate(); err != nil {
		return "", err
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return "", err
	}
	if _, ok := tx.Statement.ConnPool.(gorm.TxCommitter); !ok {
		return "", errors.New("the database handle is not in a transaction: call it with the tx of db.Transaction or db.Begin")
	}
	r := row{ctx, tx.Statement.ConnPool, statements[d], key}
	switch op {
	case Try:
		return r.try()
	case Confirm:
		return r.confirm()
	case Cancel:
		return r.cancel()
	}
	return "", fmt.Errorf("unknown operation %q", string(op))
}

// row is the barrier row of one branch, in one local transaction.
type row struct {
	ctx  context.Context
	pool gorm.ConnPool
	sql  queries
	key  Key
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
	case err != nil:
		return "", err
	case state == StateSuspended || state == StateCancelled:
		return Suspended, ErrSuspended
	default:
		return Duplicate, nil
	}
}

func (r row) confirm() (Verdict, error) {
	changed, err := r.update(r.sql.confirm)
	if err != nil {
		return "", err
	}
	if changed {
		return Run, nil
	}
	if found, err := r.update(r.sql.turnAway); err != nil {
		return "", err
	} else if !found {
		return Conflict, fmt.Errorf("%w: Confirm came, but Try never ran", ErrConflict)
	}
	state, err := r.turnedAway()
	switch {
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
	changed, err := r.update(r.sql.cancel)
	if err != nil {
		return "", err
	}
	if changed {
		return Run, nil
	}
	state, err := r.turnedAway()
	switch {
	case err != nil:
		return "", err
	case state == StateConfirmed:
		return Conflict, fmt.Errorf("%w: Cancel came, but the branch is confirmed", ErrConflict)
	default:
		return Duplicate, nil
	}
}

// insert writes a new row, or counts a call turned away on the row that is
// there; either way the row is locked afterwards.
func (r row) insert(query string) (inserted bool, err error) {
	if r.sql.affectedTells {
		// MySQL's manual, INSERT ... ON DUPLICATE KEY UPDATE: 1 row affected
		// is an insert, 2 an update, with and without clientFoundRows.
		return r.update(query)
	}
	var turnedAway int
	err = r.one(query, &turnedAway)
	return turnedAway == 0, err
}

func (r row) update(query string) (changed bool, err error) {
	result, err := r.pool.ExecContext(r.ctx, query, r.key.GID, r.key.BranchID)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// turnedAway notes when a call was turned away and returns the state of the
// row. This transaction has written the row and so locked it: even an old
// snapshot shows a transaction its own writes.
func (r row) turnedAway() (State, error) {
	if _, err := r.update(r.sql.stamp); err != nil {
		return "", err
	}
	var state State
	err := r.one(r.sql.state, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return "", errors.New("the barrier row was deleted while it was in use")
	}
	return state, err
}

// one reads the only value of the only row that a query has. QueryRowContext of
// gorm's prepared statements would panic where the connection is lost.
func (r row) one(query string, value any) error {
	rows, err := r.pool.QueryContext(r.ctx, query, r.key.GID, r.key.BranchID)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(rows.Err(), sql.ErrNoRows)
	}
	if err := rows.Scan(value); err != nil {
		return err
	}
	return rows.Close()
}
