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

// ErrUnnamed is wrapped by the error of a Try if the log of the same database has the
// transaction but not the branch. The Try would reserve something that nobody ever
// confirms or cancels.
var ErrUnnamed = errors.New("the log of this database has the transaction, but not the branch: add the branch with the Try of the transaction")

// Call writes the call into the barrier row of the branch, in the local
// transaction tx, and returns the verdict. It neither commits nor rolls back. If
// the verdict is [Run], the caller does the work. Then it commits the row and the
// work together.
//
// Call is for a service that opens the local transaction itself. An engine in another
// process calls the branches of the service. It writes each branch into its log before
// the call. A program with an engine of its own adds a branch with the Try of the
// transaction, for example with package tcc. For a branch that was not added, Call
// returns [ErrUnnamed].
//
// Open the local transaction at READ COMMITTED. At REPEATABLE READ, MySQL locks the
// gap in the log if it does not have the gid, and PostgreSQL does not see a
// transaction that was begun after the snapshot.
//
// The verdicts Suspended and Conflict come with an error that wraps
// [ErrSuspended] or [ErrConflict]. Commit all the same if the call is to be
// counted. After any other error the verdict is empty, and the caller rolls back.
// If the error is [Transient], the caller may run its local transaction again.
func Call(ctx context.Context, tx *gorm.DB, request Request) (Verdict, error) {
	verdict, err := call(ctx, tx, request)
	return verdict, wrap(request, err)
}

// wrap adds the call to an error.
func wrap(request Request, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("barrier: %s of %s: %w", request.Op, request.Key, err)
}

// Do runs one branch call in a local transaction of its own on db, at READ
// COMMITTED: the barrier, then work if the verdict is [Run], then the commit. It
// retries deadlocks and other transient faults of the database a bounded number of
// times. So work may run more than once; only the run that is committed counts.
//
// The handle that work gets is a session of db on the local transaction. It sends
// nothing more after the database has rolled back by itself, as MySQL does after a
// deadlock. It refuses statements that would end the local transaction.
//
// An error of work rolls everything back and is returned as it is. The verdicts
// Suspended and Conflict come with an error, as they do from [Call]; Do commits the
// count of calls that were turned away.
//
// If the connection is lost during COMMIT, the call may or may not have taken
// effect. Call Do again: it finds out.
func Do(ctx context.Context, db *gorm.DB, request Request, work func(tx *gorm.DB) error) (Verdict, error) {
	var verdict Verdict
	var turnedAway error
	var own error // of work, in the last run
	err := local.Run(ctx, db, func(tx *gorm.DB) (err error) {
		own = nil
		if request.Op == Try {
			if err = named(ctx, tx, request); err != nil {
				return err
			}
		}
		verdict, err = call(ctx, tx, request)
		if turnedAway = nil; errors.Is(err, ErrSuspended) || errors.Is(err, ErrConflict) {
			turnedAway = err
			return nil
		}
		if err != nil || verdict != Run {
			return err
		}
		// Anything that work opens on the handle, such as a plain *sql.Tx, ends with it.
		working, cancel := context.WithCancel(ctx)
		defer cancel()
		own = work(local.UserHandle(working, db, tx))
		return own
	})
	switch {
	case own != nil:
		return "", err
	case err != nil:
		return "", wrap(request, err)
	default:
		return verdict, wrap(request, turnedAway)
	}
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
	case Apply:
		return r.apply()
	case Ask:
		return r.ask()
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

// named returns ErrUnnamed if the log of this database has the transaction, but not
// the branch.
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
	return r.turnAway(func(state State) (Verdict, error) {
		if state == StateSuspended || state == StateCancelled {
			return Suspended, ErrSuspended
		}
		return Duplicate, nil
	})
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
	switch {
	case err != nil:
		return "", err
	case !found:
		return Conflict, fmt.Errorf("%w: a Confirm arrived, but Try never ran", ErrConflict)
	}
	return r.turnAway(func(state State) (Verdict, error) {
		if state == StateConfirmed {
			return Duplicate, nil
		}
		return Conflict, fmt.Errorf("%w: a Confirm arrived, but the branch is %s", ErrConflict, state)
	})
}

// apply writes a row that is final at once.
func (r row) apply() (Verdict, error) {
	inserted, err := r.insert(r.sql.insertConfirmed)
	if err != nil {
		return "", err
	}
	if inserted {
		return Run, nil
	}
	return r.turnAway(func(state State) (Verdict, error) {
		if state == StateConfirmed {
			return Duplicate, nil
		}
		return Conflict, fmt.Errorf("%w: an Apply arrived, but the branch is %s", ErrConflict, state)
	})
}

func (r row) cancel() (Verdict, error) {
	inserted, err := r.insert(r.sql.insertSuspended)
	if err != nil || inserted {
		return EmptyRollback, err
	}
	// The row exists, is locked, and counts this call as turned away. If the branch
	// is tried, the call runs, and the statement takes the count back.
	changed, err := r.update(r.sql.cancel, r.all())
	if err != nil {
		return "", err
	}
	if changed {
		return Run, nil
	}
	return r.turnAway(func(state State) (Verdict, error) {
		if state == StateConfirmed {
			return Conflict, fmt.Errorf("%w: a Cancel arrived, but the branch is confirmed", ErrConflict)
		}
		return Duplicate, nil
	})
}

// ask writes the row before it reads the row. So the answer holds for ever: the insert waits
// for a Try that is in flight, and a Try that arrives later is refused.
func (r row) ask() (Verdict, error) {
	inserted, err := r.insert(r.sql.insertSuspended)
	if err != nil || inserted {
		return EmptyRollback, err
	}
	return r.turnAway(func(state State) (Verdict, error) {
		if state == StateTried || state == StateConfirmed {
			return Duplicate, nil
		}
		return EmptyRollback, nil
	})
}

// key returns the arguments of a statement that names the row alone.
func (r row) key() []any { return []any{r.request.GID, r.request.BranchID} }

// all returns the arguments of a statement that also compares or writes the call.
func (r row) all() []any {
	return append(r.key(), r.request.caller(), r.request.Kind, Digest(r.request.Input))
}

// insert writes a new row, or counts a call turned away if the row exists. In both
// cases the row is locked afterwards.
func (r row) insert(query string) (inserted bool, err error) {
	if r.sql.countsRows {
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

// turnAway turns a call away that has found a row, and returns the verdict for its state.
func (r row) turnAway(verdict func(State) (Verdict, error)) (Verdict, error) {
	state, err := r.turnedAway()
	switch {
	case errors.Is(err, ErrConflict):
		return Conflict, err
	case err != nil:
		return "", err
	}
	return verdict(state)
}

// turnedAway writes the time at which a call was turned away. It returns the state of
// the row, or a conflict if the row is of another call. The local transaction has
// written the row: so it has locked the row, and sees it even in an old snapshot.
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

// mismatch returns a conflict if the caller, kind or input of a row and of a request
// differ.
func mismatch(request Request, caller, kind, input string) error {
	switch {
	case caller != "" && caller != request.caller():
		return fmt.Errorf("%w: the gid is in use by another caller: the row is of %s, the call is of %s; give each engine gids of its own", ErrConflict, describe(caller), describe(request.caller()))
	case kind != "" && kind != request.Kind:
		return fmt.Errorf("%w: the branch is of the kind %s, the call is of %s", ErrConflict, kind, describe(request.Kind))
	case input != "" && input != Digest(request.Input):
		return fmt.Errorf("%w: an earlier call of the branch had another payload", ErrConflict)
	}
	return nil
}

// describe returns the name of a caller or kind for an error.
func describe(name string) string {
	if name == NoCaller || name == "" || name == "@" { // a participant puts "@" before the names of its callers
		return "one without a name"
	}
	return name
}

// one reads the only row of a query. QueryRowContext of gorm's prepared statements
// panics if the connection is lost.
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
