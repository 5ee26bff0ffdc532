package embedded

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Confirm decides to confirm an open transaction, and drives it; see [Engine].
// After the deadline it is refused, even if nobody has cancelled yet.
func (o *opened) Confirm(ctx context.Context, gid string, options saga.Options) (saga.Outcome, error) {
	if options.Timeout != 0 {
		return saga.Outcome{GID: gid}, txn.Wrap("confirm", gid, txn.Invalid("a Timeout is an option of Begin"))
	}
	outcome, err := o.confirm(ctx, gid, txlog.ByCaller, wish{returnDecided: options.ReturnDecided, work: options.LocalWork})
	return outcome, txn.Wrap("confirm", gid, err)
}

// Cancel decides to cancel a transaction that is undecided, and drives it; see
// [Engine]. The reason is for people; at most 1,000 characters of it are kept.
func (o *opened) Cancel(ctx context.Context, gid, why string) (saga.Outcome, error) {
	if why == "" {
		why = "cancelled by the caller"
	}
	outcome, err := o.cancel(ctx, gid, txlog.ByCaller, reason.Reason{Text: why, Code: saga.CodeCancelled}, wish{})
	return outcome, txn.Wrap("cancel", gid, err)
}

// wish is what belongs to a decision, besides it.
type wish struct {
	act           *txlog.Act       // of the operator who decides; recorded with the decision
	work          decide.LocalWork // runs in the local transaction that decides
	returnDecided bool
}

// confirm and cancel decide, for whom by says.
func (o *opened) confirm(ctx context.Context, gid, by string, w wish) (saga.Outcome, error) {
	outcome, err := o.decide(ctx, txlog.Decision{GID: gid, State: txlog.Confirming, By: by}, w)
	if err != nil {
		return outcome, err
	}
	return outcome, outcome.Err(nil)
}

func (o *opened) cancel(ctx context.Context, gid, by string, why reason.Reason, w wish) (saga.Outcome, error) {
	outcome, err := o.decide(ctx, txlog.Decision{GID: gid, State: txlog.Cancelling, By: by, Reason: reason.Clip(why.Text), Code: why.Code}, w)
	if err == nil && (outcome.State == saga.Confirming || outcome.State == saga.Confirmed) {
		err = saga.ErrConfirmed
	}
	return outcome, err
}

// decide makes a decision, unless one was made, and drives what it decided.
func (o *opened) decide(ctx context.Context, d txlog.Decision, w wish) (saga.Outcome, error) {
	if err := barrier.ValidateGID(d.GID); err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	ctx, leave, err := o.admission.enter(ctx)
	if err != nil {
		return saga.Outcome{GID: d.GID}, err
	}
	return awaitOutcome(ctx, d.GID, func() (saga.Outcome, error) {
		defer leave()
		d.Owner, d.Due = o.instance, o.lease
		decided, err := o.decideOnce(ctx, d, w)
		if err != nil {
			return saga.Outcome{GID: d.GID}, err
		}
		outcome := follow.Outcome(decided.record)
		if w.act != nil && !decided.made && (outcome.State == saga.Cancelling || outcome.State == saga.Cancelled) == (d.State == txlog.Cancelling) {
			return outcome, fmt.Errorf("it is %s already: %w", outcome.State, saga.ErrRefused)
		}
		if decided.drive == nil {
			return outcome, nil
		}
		entry := o.inFlight.TakeOver(d.GID)
		if entry == nil {
			return outcome, nil // stopping; it becomes due again
		}
		return o.finisher.finish(ctx, decided.drive, entry, outcome, w.returnDecided || scopeOf(ctx).returnDecided), nil
	})
}

// madeDecision is what became of a decision of an open transaction.
type madeDecision struct {
	record txlog.Record
	made   bool     // by this call, and not before
	drive  *txn.Txn // what this instance has to drive now; nil if it has not
}

// decideOnce makes the decision d, or finds the one that was made. A Confirm
// that comes after the deadline makes the decision to cancel.
func (o *opened) decideOnce(ctx context.Context, d txlog.Decision, w wish) (decided madeDecision, err error) {
	for look := 1; ; look++ {
		decided, err = o.decideOrRead(ctx, d, w)
		if look == txn.MaxLooks || !errors.Is(err, local.ErrCommitUnknown) && !errors.Is(err, txlog.ErrStale) {
			break
		}
	}
	var workFailed *call.WorkError
	switch record := decided.record; {
	case errors.As(err, &workFailed):
		return decided, workFailed
	case errors.Is(err, txlog.ErrNotFound):
		return decided, saga.ErrNotFound
	case errors.Is(err, saga.ErrNotTried):
		return decided, err
	case err != nil:
		return decided, &saga.UnknownError{GID: d.GID, Cause: err}
	case decided.made || saga.State(record.State).Decided():
		return decided, nil
	case record.Digest != "":
		return decided, fmt.Errorf("it is being executed with a plan, which decides by itself: %w", saga.ErrNotOpen)
	case d.State == txlog.Confirming && record.Expired:
		d.State, d.By, d.Reason, d.Code = txlog.Cancelling, txlog.ByDeadline, "it was undecided at its deadline", saga.CodeDeadline
		return o.decideOnce(ctx, d, wish{})
	default:
		return decided, &saga.UnknownError{GID: d.GID, Cause: txlog.ErrStale}
	}
}

// decideOrRead makes the decision and reads the row and the branches, locked, in
// one local transaction. A transaction with a plan is not confirmed from outside.
// One with a kind of branch that is unknown here is left to another instance.
func (o *opened) decideOrRead(ctx context.Context, d txlog.Decision, w wish) (decided madeDecision, err error) {
	err = local.Run(ctx, o.db, func(tx *gorm.DB) error {
		decided = madeDecision{}
		record, err := o.log.GetLocked(ctx, tx, d.GID)
		if decided.record = record; err != nil {
			return err
		}
		if !scopeOf(ctx).has(record.Pattern) {
			return txlog.ErrNotFound
		}
		if saga.State(record.State).Decided() || d.State == txlog.Confirming && (record.Digest != "" || record.Expired) {
			return nil
		}
		branches, err := o.log.LockedBranches(ctx, tx, d.GID)
		if err != nil {
			return err
		}
		for _, b := range branches[d.GID] {
			if d.State == txlog.Confirming && !b.Tried {
				return fmt.Errorf("branch %s, %s: %w", b.ID, b.Kind, saga.ErrNotTried)
			}
			if !o.builder.Registry.Knows(b.Kind) {
				d.Owner, d.Due = "", 0
			}
		}
		if w.work != nil {
			if err := o.calls.LocalWork(ctx, o.db, tx, d.GID, w.work); err != nil {
				return err
			}
		}
		switch err := o.log.Decide(ctx, tx, d); {
		case errors.Is(err, txlog.ErrStale) && w.work == nil:
			return nil
		case err != nil:
			return err
		}
		if w.act != nil {
			if err := o.log.Record(ctx, tx, *w.act); err != nil {
				return err
			}
		}
		if decided.record, err = o.log.GetLocked(ctx, tx, d.GID); err != nil {
			return err
		}
		decided.made = true
		if d.Owner != "" && !record.Paused() {
			decided.drive = o.builder.Load(txlog.Claimed{Record: decided.record, Branches: branches[d.GID]})
		}
		return nil
	})
	return decided, err
}

// Wait waits until a transaction has come to its end, Confirmed or Cancelled, and
// returns its outcome, with an error as [Orchestrator.Execute] has it. If ctx ends
// before, it returns what is known by then. An unknown gid matches [ErrNotFound].
func (o *opened) Wait(ctx context.Context, gid string) (saga.Outcome, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return saga.Outcome{}, txn.Wrap("wait", gid, txn.Invalid("%w", err))
	}
	record, err := o.reader.Await(ctx, gid, saga.State.Finished)
	switch outcome := follow.Outcome(record); {
	case errors.Is(err, txlog.ErrNotFound):
		return saga.Outcome{GID: gid}, txn.Wrap("wait", gid, saga.ErrNotFound)
	case err != nil && !outcome.State.Decided():
		return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
	default:
		return outcome, outcome.Err(nil)
	}
}
