package decide

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// confirm runs the local work, tries the last resident branches, and decides to confirm, in
// one local transaction.
// Without an error the state is decided, but somebody else may have decided to cancel.
func (e *execution) confirm(ctx context.Context, last []*txn.Step) error {
	d, t := e.d, e.txn
	decision := txlog.Decision{GID: t.GID, Epoch: t.Epoch, State: txlog.Confirming, By: txlog.ByCaller, Owner: d.Instance, Due: d.Lease}
	if e.work == nil && len(last) == 0 {
		return e.settle(ctx, decision, func() error {
			return d.Commits.Write(ctx, commit.Write{GID: t.GID, Results: t.Results(e.newResults), Confirm: &decision})
		})
	}
	return e.settle(ctx, decision, func() error {
		return d.Shared.Alone().Run(ctx, func(tx *gorm.DB) error {
			if err := e.runWork(ctx, tx, e.work); err != nil {
				return err
			}
			if err := d.TryAll(ctx, tx, t, last); err != nil {
				return err
			}
			if err := e.putResults(ctx, tx); err != nil {
				return err
			}
			return d.Log.Decide(ctx, tx, decision)
		})
	})
}

// cancel decides to cancel because of cause. If the Try of a step is the cause, that is
// failed; otherwise failed is nil.
func (e *execution) cancel(ctx context.Context, failed *txn.Step, cause error) error {
	if confirmed, err := e.askBefore(ctx); err != nil {
		return fmt.Errorf("%v; %w", cause, err) // it is not a rejection: the outcome is not known
	} else if confirmed {
		return nil
	}
	d, t := e.d, e.txn
	// The decision is made even if the caller is gone.
	deciding, stop := d.Life.DetachCall(ctx)
	defer stop()
	why := cause
	write := commit.Write{GID: t.GID, Results: t.Results(e.newResults)}
	if failed != nil {
		branch := &txn.BranchError{ID: failed.ID, Kind: failed.Kind, Err: cause}
		failure := reason.FailedTry(branch, d.Instance)
		why, write.Failed = branch, &failure
	}
	done := e.markWithoutCancel(failed, cause)
	e.reason = reason.Of(why)
	if ctx.Err() != nil && e.reason.Code == saga.CodeFailed {
		e.reason.Code = saga.CodeGone
	}
	decision := txlog.Decision{GID: t.GID, Epoch: t.Epoch, State: txlog.Cancelling, Reason: e.reason.Text, Code: e.reason.Code,
		BranchID: e.reason.BranchID, By: txlog.ByCaller, Owner: d.Instance, Due: d.Lease, ByBranch: t.Deciding() != nil}
	if failed != nil {
		decision.Failures = 1
	}
	if !decision.ByBranch {
		write.Cancel = &decision
	}
	if decision.ByBranch || len(done) > 0 {
		write.More = func(ctx context.Context, tx *gorm.DB) error {
			if decision.ByBranch {
				if err := d.Log.Decide(ctx, tx, decision); err != nil {
					return err
				}
			}
			return d.Log.Done(ctx, tx, t.GID, done...)
		}
	}
	err := e.settle(deciding, decision, func() error { return d.Commits.Write(deciding, write) })
	switch {
	case err != nil:
		return fmt.Errorf("%w; and the decision to cancel could not be written, so it will be made at the deadline: %w", cause, err)
	case e.taken || t.State == saga.Confirming:
		return nil
	default:
		return cause
	}
}

// markWithoutCancel marks the steps as done that have reserved nothing, so that no Cancel is
// called. It returns their ids.
func (e *execution) markWithoutCancel(failed *txn.Step, cause error) (ids []string) {
	if failed != nil && errors.Is(cause, barrier.ErrConflict) {
		// The barrier row is of another transaction. A Cancel would be a conflict too.
		failed.Done, ids = true, []string{failed.ID}
	}
	if e.txn.Epoch > 1 {
		// The instance that drove it before may still call any branch. Cancel makes the
		// barrier refuse such a Try.
		return ids
	}
	for _, s := range e.notTried {
		if !s.Done {
			s.Done, ids = true, append(ids, s.ID)
		}
	}
	return ids
}

// settle runs write, which makes a decision, until the decision is certain. It may be a
// different one, which somebody else has made.
func (e *execution) settle(ctx context.Context, decision txlog.Decision, write func() error) error {
	d, t, unanswered := e.d, e.txn, false
	for run := 1; ; run++ {
		err := write()
		if err == nil {
			t.Decide(saga.State(decision.State))
			e.made = true
			return nil
		}
		unanswered = unanswered || errors.Is(err, local.ErrCommitUnknown)
		if !errors.Is(err, txlog.ErrStale) && !errors.Is(err, local.ErrCommitUnknown) {
			return err
		}
		record, readErr := d.Reader.Locked(ctx, t.GID)
		switch {
		case readErr != nil:
			return fmt.Errorf("%w; and reading it back failed: %w", err, readErr)
		case record.Epoch != t.Epoch:
			return e.awaitTaken(ctx)
		case saga.State(record.State).Decided():
			e.adopt(record)
			e.made = unanswered && record.State == decision.State && record.DecidedBy == decision.By
			return nil
		case record.Expired && decision.State == txlog.Confirming && !decision.ByBranch:
			return txn.ErrDeadline
		case run == txn.MaxRuns:
			return err
		}
	}
}

// awaitTaken waits for the decision of the instance that has taken the transaction over.
func (e *execution) awaitTaken(ctx context.Context) error {
	record, err := e.d.Reader.AwaitDecision(ctx, e.txn.GID)
	if err != nil {
		return err
	}
	e.taken = true
	e.adopt(record)
	e.d.MakeCancelDue(ctx, e.txn.GID)
	return nil
}
