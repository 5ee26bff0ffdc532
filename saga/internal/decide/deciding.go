package decide

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// decideByBranch tries the step whose COMMIT is the decision, and records that decision.
func (e *execution) decideByBranch(ctx, trying context.Context, s *txn.Step) error {
	if wait := e.waitOf(trying, []*txn.Step{s}); e.txn.TryAttempts != 0 && wait > 0 {
		return e.postpone(trying, nil, wait)
	}
	err := e.storeResults(trying)
	if err == nil {
		err = local.Expired(trying)
	}
	if err != nil { // the Try is not called
		return e.cancel(ctx, nil, txn.CauseOf(trying, err))
	}
	e.mayBeCommitted = true
	err = e.tryEach(trying, []*txn.Step{s})[0]
	switch {
	case err == nil:
		return e.recordCommitted(ctx)
	case errors.Is(err, barrier.ErrConflict) && e.txn.Epoch == 1:
		// The barrier row is of another transaction, so the Try of this one, which was called
		// only here, is not committed.
		e.mayBeCommitted = false
	case e.txn.TryAttempts != 0 && e.mayTryAgain(trying, s, err):
		return e.postpone(trying, map[*txn.Step]error{s: err}, 0)
	}
	// Also after a rejection: an earlier request of the same Try may still arrive.
	return e.cancel(ctx, s, txn.CauseOf(trying, err))
}

// recordCommitted records the decision to confirm, which the branch that decides has made. It
// does so after the deadline too, and if the caller is gone.
func (e *execution) recordCommitted(ctx context.Context) error {
	d, t := e.d, e.txn
	recording, stop := d.Life.DetachCall(ctx)
	defer stop()
	decision := txlog.Decision{GID: t.GID, Epoch: t.Epoch, State: txlog.Confirming, By: txlog.ByCaller, Owner: d.Instance, Due: d.Lease, ByBranch: true}
	write := commit.Write{GID: t.GID, Results: t.Results(e.newResults), More: func(ctx context.Context, tx *gorm.DB) error { return d.Log.Decide(ctx, tx, decision) }}
	err := e.settle(recording, decision, func() error { return d.Commits.Write(recording, write) })
	if err != nil {
		return fmt.Errorf("the branch that decides is committed, so it will be confirmed, but that could not be written: %w", err)
	}
	return nil
}

// askBefore asks the branch that decides before a decision to cancel, if its Try may be
// committed. If it is, askBefore records the decision to confirm instead.
func (e *execution) askBefore(ctx context.Context) (confirmed bool, err error) {
	if !e.mayBeCommitted {
		return false, nil
	}
	asking, stop := e.d.Life.DetachCall(ctx)
	defer stop()
	committed, err := e.d.Ask(asking, e.txn)
	switch {
	case errors.Is(err, txlog.ErrStale):
		// Another instance asks.
		return true, e.awaitTaken(ctx)
	case err != nil:
		return false, err
	case !committed:
		e.mayBeCommitted = false
		return false, nil
	}
	if s := e.txn.Deciding(); s.Result != nil {
		e.newResults = append(e.newResults, s)
	}
	return true, e.recordCommitted(ctx)
}
