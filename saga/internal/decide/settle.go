package decide

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// confirm tries the branches in the orchestrator's own database and decides,
// in one local transaction. Without an error the state is decided, though it
// may be to cancel, by somebody else.
func (e *execution) confirm(ctx context.Context, fused []*txn.Step) error {
	d, t := e.d, e.txn
	decision := txlog.Decision{GID: t.GID, Epoch: t.Epoch, State: txlog.Confirming, By: txlog.ByCaller, Owner: d.Instance, Due: d.Lease}
	return e.settle(ctx, saga.Confirming, func(tx *gorm.DB) error {
		if err := e.runWork(ctx, tx); err != nil {
			return err
		}
		if err := d.TryAll(ctx, tx, t, fused); err != nil {
			return err
		}
		return d.Log.Decide(ctx, tx, decision)
	})
}

// cancel decides to cancel because of cause, which came from the step s, if it
// came from one.
func (e *execution) cancel(ctx context.Context, s *txn.Step, cause error) error {
	d, t := e.d, e.txn
	// The caller may be gone; the decision is made all the same.
	deciding, stop := d.Life.DetachCall(ctx)
	defer stop()
	why := cause
	var failures []txlog.Failure
	var refused []string
	if s != nil {
		failed := &txn.BranchError{ID: s.ID, Kind: s.Kind, Err: cause}
		why, failures = failed, []txlog.Failure{reason.FailedTry(failed, d.Instance)}
		if errors.Is(cause, barrier.ErrConflict) {
			// The row there is another transaction's: this one has reserved
			// nothing, and its Cancel would be a conflict too.
			s.Done, refused = true, []string{s.ID}
		}
	}
	for _, s := range e.untouched {
		if !s.Done {
			s.Done, refused = true, append(refused, s.ID)
		}
	}
	e.reason = reason.Of(why)
	if ctx.Err() != nil && e.reason.Code == saga.CodeFailed {
		e.reason.Code = saga.CodeGone
	}
	decision := txlog.Decision{GID: t.GID, Epoch: t.Epoch, State: txlog.Cancelling, Reason: e.reason.Text, Code: e.reason.Code,
		BranchID: e.reason.BranchID, By: txlog.ByCaller, Owner: d.Instance, Due: d.Lease}
	err := e.settle(deciding, saga.Cancelling, func(tx *gorm.DB) error {
		if err := d.Log.Decide(deciding, tx, decision); err != nil {
			return err
		}
		if err := d.Log.Done(deciding, tx, t.GID, refused...); err != nil {
			return err
		}
		return d.Log.Fail(deciding, tx, txlog.Retry{GID: t.GID, Epoch: t.Epoch, Due: d.Lease}, failures)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w; and the decision to cancel could not be written, so it will be made at the deadline: %w", cause, err)
	case e.lost || t.State == saga.Confirming:
		return nil
	default:
		return cause
	}
}

// settle runs write, which makes the decision for state, until it is certain
// how the transaction is decided: so, or otherwise by somebody else.
func (e *execution) settle(ctx context.Context, state saga.State, write func(tx *gorm.DB) error) error {
	d, t := e.d, e.txn
	for look := 1; ; look++ {
		err := local.Run(ctx, d.DB, write)
		if err == nil {
			t.State = state
			return nil
		}
		if !errors.Is(err, txlog.ErrStale) && !errors.Is(err, local.ErrCommitUnknown) {
			return err
		}
		record, readErr := d.Reader.Locked(ctx, t.GID)
		switch {
		case readErr != nil:
			return fmt.Errorf("%w; and reading it back failed: %w", err, readErr)
		case record.Epoch != t.Epoch:
			return e.yield(ctx)
		case saga.State(record.State).Decided():
			e.take(record)
			return nil
		case record.Expired && state == saga.Confirming:
			return txn.ErrDeadline
		case look == txn.MaxLooks:
			return err
		}
	}
}

// yield leaves the transaction to whoever has taken it over, and learns how it
// is decided there.
func (e *execution) yield(ctx context.Context) error {
	record, err := e.d.Reader.AwaitDecision(ctx, e.txn.GID)
	if err != nil {
		return err
	}
	e.lost = true
	e.take(record)
	e.d.MakeCancelDue(ctx, e.txn.GID)
	return nil
}
