package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/enlist"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/recovery"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// enlisted executes plans in local transactions of the user.
type enlisted struct {
	admission *admission
	builder   *txn.Builder
	paused    *pause.Kinds
	decider   *decide.Decider
	db        *gorm.DB
	log       *txlog.Log
	timeout   time.Duration // unless the plan says otherwise
	instance  string
	commits   *enlist.Watcher
	wake      *recovery.Waker
	observe   *observe.Notifier
}

// ExecuteIn executes a plan in a local transaction of the caller; see [saga.LocalEngine].
//
// The handle tx is of the same pool as the handle that [Open] got. This instance finds the
// transaction within milliseconds after the commit, and makes the Confirms that are left, such
// as the publishing of a message. If the process dies, or the commit takes longer than two
// polls, recovery finds the transaction later.
func (e *enlisted) ExecuteIn(ctx context.Context, tx *gorm.DB, plan saga.Plan) (saga.Outcome, error) {
	ctx, ended := e.observe.Operation(ctx, "execute in", plan.GID)
	outcome, err := e.executeIn(ctx, tx, plan)
	ended(err)
	return outcome, txn.Wrap("execute in a local transaction", plan.GID, err)
}

// ExecuteInSQL is [Engine.ExecuteIn] for a local transaction of package database/sql.
func (e *enlisted) ExecuteInSQL(ctx context.Context, tx *sql.Tx, plan saga.Plan) (saga.Outcome, error) {
	if tx == nil {
		return saga.Outcome{}, txn.Wrap("execute in a local transaction", plan.GID, txn.Invalid("the local transaction is nil"))
	}
	session := e.db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipDefaultTransaction: true})
	session.Statement.ConnPool = tx
	return e.ExecuteIn(ctx, session, plan)
}

func (e *enlisted) executeIn(ctx context.Context, tx *gorm.DB, plan saga.Plan) (saga.Outcome, error) {
	t, err := e.builder.Prepare(plan)
	if err != nil {
		return saga.Outcome{}, err
	}
	deadline, err := timeoutOf(plan.Timeout, e.timeout)
	if err == nil {
		err = e.accepts(tx, plan, t)
	}
	if err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	if err = e.paused.Refuse(t.Steps); err != nil {
		return saga.Outcome{}, err
	}
	ctx, leave, err := e.admission.enter(ctx, true)
	if err != nil {
		return saga.Outcome{}, err
	}
	defer leave()
	tx, err = local.Guard(ctx, tx)
	if err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	start := txlog.Start{GID: t.GID, Pattern: plan.Pattern, Digest: t.Digest(plan.Pattern), Owner: e.instance, Deadline: deadline, Branches: t.Rows(), Labels: t.Labels}
	start.Trace = e.observe.Inject(ctx)
	t.Trace = start.Trace
	state, err := e.decide(ctx, tx, t, start)
	switch {
	case errors.Is(err, txlog.ErrExists):
		return e.known(ctx, tx, start)
	case errors.Is(err, txlog.ErrUnseen):
		return saga.Outcome{}, saga.ErrInUse
	case err != nil:
		return saga.Outcome{}, err
	}
	return saga.Outcome{GID: t.GID, State: state}, nil
}

// decide decides a transaction in tx. The Confirms that are left follow when the commit shows
// it.
func (e *enlisted) decide(ctx context.Context, tx *gorm.DB, t *txn.Txn, start txlog.Start) (saga.State, error) {
	expected := e.commits.Reserve(ctx, t, start.Digest)
	if expected == nil { // recovery drives it, as fast as it can
		state, err := e.decider.DecideIn(ctx, tx, t, start, 0)
		if err == nil && !state.Finished() {
			e.wake.Soon()
		}
		return state, err
	}
	state, err := e.decider.DecideIn(ctx, tx, t, start, e.commits.For)
	if err == nil && !state.Finished() {
		expected.Watch()
	} else {
		expected.Drop()
	}
	return state, err
}

// known returns the outcome of a transaction that was executed before. It is in use if the
// snapshot of tx does not show it.
func (e *enlisted) known(ctx context.Context, tx *gorm.DB, start txlog.Start) (saga.Outcome, error) {
	record, err := e.log.Get(ctx, tx, start.GID)
	switch {
	case errors.Is(err, txlog.ErrNotFound):
		return saga.Outcome{}, saga.ErrInUse
	case err != nil:
		return saga.Outcome{}, err
	case record.Digest != start.Digest:
		return saga.Outcome{}, fmt.Errorf("the gid is %w", saga.ErrMismatch)
	}
	outcome := follow.Outcome(record)
	return outcome, outcome.Err(nil)
}

// accepts says why a plan cannot be executed in tx, if it cannot.
func (e *enlisted) accepts(tx *gorm.DB, plan saga.Plan, t *txn.Txn) error {
	switch {
	case plan.LocalWork != nil || plan.LocalWorkIn != "":
		return errors.New("LocalWork has no use here: do the work in the local transaction")
	case plan.TryAttempts != 0:
		return errors.New("TryAttempts has no use here: a failed Try is an error, and the local transaction is rolled back")
	case t.HasRole(txlog.RoleDecides):
		return errors.New("a branch that decides has no use here: the COMMIT of the local transaction decides")
	case tx == nil || tx.Config == nil || tx.Statement == nil || !local.InTransaction(tx):
		return errors.New("the handle is not in a local transaction: give the tx of db.Transaction or db.Begin")
	}
	pool, err := local.Pool(tx)
	if err != nil {
		return err
	}
	if pool != e.builder.Registry.Pool() {
		return errors.New("the local transaction is of another pool than the engine's database: begin it on the handle that Open was given")
	}
	for _, s := range t.Before() {
		if !s.Branch.TriesInLog() {
			return fmt.Errorf("branch %s, %s, is not in the engine's own database: its Try cannot be part of the local transaction", s.ID, s.Kind)
		}
	}
	return nil
}
