package saga

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// confirm tries the branches in the orchestrator's own database and decides,
// in one local transaction. Without an error the state is decided, though it
// may be to cancel, by somebody else.
func (e *execution) confirm(ctx context.Context, fused []*step) error {
	o, t := e.o, e.txn
	decision := txlog.Decision{GID: t.gid, Epoch: t.epoch, State: txlog.Confirming, By: byCaller, Owner: o.instance.ID, Due: o.config.Lease}
	return e.settle(ctx, Confirming, func(tx *gorm.DB) error {
		if err := o.tryAll(ctx, tx, t, fused); err != nil {
			return err
		}
		return o.log.Decide(ctx, tx, decision)
	})
}

// cancel decides to cancel because of cause, which came from the step s, if it
// came from one.
func (e *execution) cancel(ctx context.Context, s *step, cause error) error {
	o, t := e.o, e.txn
	// The caller may be gone; the decision is made all the same.
	deciding, stop := o.detachFor(ctx)
	defer stop()
	why := cause
	var failures []txlog.Failure
	var refused []string
	if s != nil {
		failed := &branchError{id: s.id, kind: s.kind, err: cause}
		why, failures = failed, []txlog.Failure{o.failedTry(failed)}
		if errors.Is(cause, barrier.ErrConflict) {
			// The row there is another transaction's: this one has reserved
			// nothing, and its Cancel would be a conflict too.
			s.done, refused = true, []string{s.id}
		}
	}
	for _, s := range e.untouched {
		if !s.done {
			s.done, refused = true, append(refused, s.id)
		}
	}
	e.reason = reasonOf(why)
	if ctx.Err() != nil && e.reason.code == CodeFailed {
		e.reason.code = CodeGone
	}
	decision := txlog.Decision{GID: t.gid, Epoch: t.epoch, State: txlog.Cancelling, Reason: e.reason.text, Code: e.reason.code,
		BranchID: e.reason.branchID, By: byCaller, Owner: o.instance.ID, Due: o.config.Lease}
	err := e.settle(deciding, Cancelling, func(tx *gorm.DB) error {
		if err := o.log.Decide(deciding, tx, decision); err != nil {
			return err
		}
		if err := o.log.Done(deciding, tx, t.gid, refused...); err != nil {
			return err
		}
		return o.log.Fail(deciding, tx, txlog.Retry{GID: t.gid, Epoch: t.epoch, Due: o.config.Lease}, failures)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w; and the decision to cancel could not be written, so it will be made at the deadline: %w", cause, err)
	case e.lost || t.state == Confirming:
		return nil
	default:
		return cause
	}
}

// settle runs write, which makes the decision for state, until it is certain
// how the transaction is decided: so, or otherwise by somebody else.
func (e *execution) settle(ctx context.Context, state State, write func(tx *gorm.DB) error) error {
	o, t := e.o, e.txn
	for look := 1; ; look++ {
		err := local.Run(ctx, o.db, write)
		if err == nil {
			t.state = state
			return nil
		}
		if !errors.Is(err, txlog.ErrStale) && !errors.Is(err, local.ErrCommitUnknown) {
			return err
		}
		record, readErr := o.readLocked(ctx, t.gid)
		switch {
		case readErr != nil:
			return fmt.Errorf("%w; and reading it back failed: %w", err, readErr)
		case record.Epoch != t.epoch:
			return e.yield(ctx)
		case State(record.State).Decided():
			e.take(record)
			return nil
		case record.Expired && state == Confirming:
			return errDeadline
		case look == maxLooks:
			return err
		}
	}
}

// yield leaves the transaction to whoever has taken it over, and learns how it
// is decided there.
func (e *execution) yield(ctx context.Context) error {
	record, err := e.o.awaitDecision(ctx, e.txn.gid)
	if err != nil {
		return err
	}
	e.lost = true
	e.take(record)
	e.o.makeCancelDue(ctx, e.txn.gid)
	return nil
}

// makeCancelDue makes a transaction that is being cancelled due now. A Cancel may have
// waited for a Try that has ended.
func (o *Orchestrator) makeCancelDue(ctx context.Context, gid string) {
	ctx, cancel := o.detachFor(ctx)
	defer cancel()
	if err := o.log.MakeCancelDue(ctx, gid); err != nil {
		o.warn(ctx, "saga: a Cancel that may come now comes at its next attempt", err)
	}
}
