package decide

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// execution is the first phase of Execute.
type execution struct {
	d      *Decider
	txn    *txn.Txn
	start  txlog.Start
	work   LocalWork
	reason reason.Reason // why it is cancelled, once it is
	lost   bool          // somebody else has taken the transaction over

	untouched []*txn.Step // their Trys were not called, or were rolled back: there is nothing to cancel
}

// outcome is what is known of the transaction.
func (e *execution) outcome() saga.Outcome {
	return saga.Outcome{GID: e.txn.GID, State: e.txn.State, Reason: e.reason.Text, Code: e.reason.Code, BranchID: e.reason.BranchID}
}

// take takes over what the log says of the transaction.
func (e *execution) take(r txlog.Record) {
	e.txn.State, e.reason = saga.State(r.State), reason.Reason{Text: r.Reason, Code: r.Code, BranchID: r.BranchID}
}

// decide brings the transaction to its decision: afterwards its state is
// decided, or the error says why it is not. After a decision to cancel, the
// error is the cause.
func (e *execution) decide(ctx context.Context) error {
	// It counts from a moment before the database begins to count.
	trying, cancel := context.WithTimeoutCause(ctx, e.start.Deadline, txn.ErrDeadline)
	defer cancel()
	runs := runsOf(e.txn.Steps)
	if len(runs) == 1 && runs[0].fused {
		if e.work != nil {
			return e.decideAlone(trying)
		}
		return e.decideInBatch(trying)
	}
	var first []*txn.Step // in the commit that begins the transaction
	if runs[0].fused {
		first, runs = runs[0].steps, runs[1:]
	}
	if err := e.begin(trying, first); err != nil {
		return err
	}
	var last []*txn.Step // in the commit with the decision
	if n := len(runs) - 1; runs[n].fused {
		last, runs = runs[n].steps, runs[:n]
	}
	e.untouched = e.txn.Steps[len(first):]
	for _, run := range runs {
		if s, err := e.tryRun(trying, run); err != nil {
			return e.cancel(ctx, s, txn.CauseOf(trying, err))
		}
	}
	e.untouched = nil
	err := e.confirm(trying, last)
	if err == nil || e.txn.State.Decided() {
		return err
	}
	var failed *txn.BranchError
	var workFailed *call.WorkError
	switch {
	case errors.As(err, &failed):
		e.untouched = last
		return e.cancel(ctx, last[failed.Index], txn.CauseOf(trying, failed.Err))
	case errors.As(err, &workFailed):
		e.untouched = last
	}
	return e.cancel(ctx, nil, txn.CauseOf(trying, err))
}

// stepRun are steps that follow each other in a plan and are tried the same way.
type stepRun struct {
	steps []*txn.Step
	fused bool // in a local transaction with the log
}

// runsOf separates the steps of a plan where the way of their Trys changes.
func runsOf(steps []*txn.Step) (all []stepRun) {
	for _, s := range steps {
		fused := s.Branch.TriesInLog()
		if n := len(all); n == 0 || all[n-1].fused != fused {
			all = append(all, stepRun{fused: fused})
		}
		run := &all[len(all)-1]
		run.steps = append(run.steps, s)
	}
	return all
}

// tryRun tries steps before the decision, and returns the one that failed.
func (e *execution) tryRun(ctx context.Context, run stepRun) (*txn.Step, error) {
	if !run.fused {
		for _, s := range run.steps {
			e.untouched = e.untouched[1:]
			if err := e.d.Calls.Apart(ctx, s.Branch, e.txn.Call(s, barrier.Try)); err != nil {
				return s, err
			}
		}
		return nil, nil
	}
	for look := 1; ; look++ {
		err := local.Run(ctx, e.d.DB, func(tx *gorm.DB) error { return e.d.TryAll(ctx, tx, e.txn, run.steps) })
		if errors.Is(err, local.ErrCommitUnknown) && look < txn.MaxLooks {
			continue // the barrier knows whether it was made
		}
		var failed *txn.BranchError
		if errors.As(err, &failed) { // all of the run was rolled back
			return run.steps[failed.Index], failed.Err
		}
		e.untouched = e.untouched[len(run.steps):]
		return nil, err
	}
}

// decideAlone writes the transaction as decided, and tries every branch, in a
// local transaction of its own. Whether it was committed is certain in the end:
// the gid's row is written again if need be, and waits for an unanswered
// COMMIT.
func (e *execution) decideAlone(ctx context.Context) error {
	d, t := e.d, e.txn
	start := e.start
	start.State, start.DecidedBy, start.Due = txlog.Confirming, txlog.ByCaller, d.Lease
	err := e.insert(ctx, start, func(tx *gorm.DB) error {
		if err := e.runWork(ctx, tx); err != nil {
			return err
		}
		return d.TryAll(ctx, tx, t, t.Steps)
	})
	if err == nil {
		return nil
	}
	return e.refuse(ctx, err)
}

// runWork runs the local work, if there is any, in the local transaction that decides.
func (e *execution) runWork(ctx context.Context, tx *gorm.DB) error {
	if e.work == nil {
		return nil
	}
	return e.d.Calls.LocalWork(ctx, e.d.DB, tx, e.txn.GID, e.work)
}

// refuse writes the transaction as cancelled because of err: of a Try, or of a
// COMMIT that the database has refused. Everything was rolled back, nothing was
// reserved, and what is left to write is that, and why. Other errors are
// returned as they are.
func (e *execution) refuse(ctx context.Context, err error) error {
	start := e.start
	var failed *txn.BranchError
	var workFailed *call.WorkError
	switch {
	case errors.As(err, &failed):
		err = txn.CauseOf(ctx, failed.Err)
		e.reason = reason.Of(&txn.BranchError{ID: failed.ID, Kind: failed.Kind, Err: err})
	case errors.As(err, &workFailed):
		err = txn.CauseOf(ctx, err)
		e.reason = reason.Of(err)
	case errors.Is(err, local.ErrCommitRefused):
		e.reason = reason.Of(err)
	default:
		return err
	}
	start.Reason, start.Code, start.BranchID = e.reason.Text, e.reason.Code, e.reason.BranchID
	start.State, start.DecidedBy = txlog.Cancelled, txlog.ByCaller
	recording, cancel := e.d.Life.DetachCall(ctx)
	defer cancel()
	if e := e.insert(recording, start, e.detail(recording, failed)); e != nil {
		return fmt.Errorf("%w; nothing was reserved, but recording that failed: %w", err, e)
	}
	return err
}

// begin writes the transaction as undecided, before any branch that lives
// elsewhere is called, and tries the first steps in the same local transaction. If
// one of these fails, nothing was begun, and it is written as cancelled.
func (e *execution) begin(ctx context.Context, first []*txn.Step) error {
	d := e.d
	start := e.start
	start.State, start.Due = txlog.Trying, min(d.Lease, start.Deadline)
	err := e.insert(ctx, start, func(tx *gorm.DB) error { return d.TryAll(ctx, tx, e.txn, first) })
	if err == nil {
		return nil
	}
	return e.refuse(ctx, err)
}

// insert writes the row of the transaction, and does more in the same local
// transaction, until it is certain how that went, and takes over its state. An
// unanswered COMMIT makes it run again: that waits for the COMMIT, and finds the
// row if it was written. ErrExists is of somebody else's.
func (e *execution) insert(ctx context.Context, start txlog.Start, more func(tx *gorm.DB) error) error {
	d, unanswered := e.d, false
	for look := 1; ; look++ {
		err := local.Run(ctx, d.DB, func(tx *gorm.DB) error {
			if err := d.Log.Insert(ctx, tx, start); err != nil || more == nil {
				return err
			}
			return more(tx)
		})
		switch {
		case err == nil:
			e.txn.State = saga.State(start.State)
			return nil
		case errors.Is(err, local.ErrCommitUnknown) && look < txn.MaxLooks:
			unanswered = true
			continue
		case errors.Is(err, txlog.ErrExists) && unanswered:
			record, getErr := d.Reader.Locked(ctx, start.GID)
			if getErr == nil && e.isOurs(record) {
				e.take(record)
				return nil
			}
			return errors.Join(err, getErr)
		}
		return err
	}
}

// isOurs recognises the row that this execution has written: nobody else in
// this instance writes the gid while its entry lasts.
func (e *execution) isOurs(r txlog.Record) bool {
	return r.Owner == e.d.Instance && r.Digest == e.start.Digest && r.Epoch == e.txn.Epoch
}

// detail writes down the failed Try of a transaction that was not begun, if the reason
// does not say all of it; nil if there is nothing to write.
func (e *execution) detail(ctx context.Context, failed *txn.BranchError) func(tx *gorm.DB) error {
	if failed == nil || failed.Error() == e.reason.Text {
		return nil
	}
	failure := reason.FailedTry(failed, e.d.Instance)
	return func(tx *gorm.DB) error { return e.d.Log.Attempted(ctx, tx, e.txn.GID, failure) }
}
