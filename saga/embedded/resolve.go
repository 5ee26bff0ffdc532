package embedded

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Resolve ends a conflict, which no retry can end. An operator states the result of one branch
// of a decided transaction, and the transaction continues without calling that branch.
// Believed is Confirmed if the effect of the branch is there, and Cancelled if nothing of it
// is left. It is recorded with the act. It need not match the decision: the operator may have
// corrected the branch by hand, or accepted the loss.
//
// Resolve is refused with [saga.ErrRefused] if the transaction is undecided or finished, or if
// the branch is done. It is also refused if the last call of the branch did not fail with a
// conflict, because then the branch is called until it succeeds.
//
// Resolve reads the barrier row of a branch in a database of this process. If the due call
// could succeed now, it is refused too; use Retry. A process in which the kind of the branch
// is not registered cannot read the row, so use a process in which it is registered.
func (o *operators) Resolve(ctx context.Context, gid, branchID string, believed saga.State, by saga.Operator) error {
	key := barrier.Key{GID: gid, BranchID: branchID}
	if err := key.Validate(); err != nil {
		return txn.Wrap(actResolve, "", txn.Invalid("%w", err))
	}
	if believed != saga.Confirmed && believed != saga.Cancelled {
		return txn.Wrap(actResolve, key.String(), txn.Invalid("the belief is %q, it must be Confirmed or Cancelled", string(believed)))
	}
	if err := checkOperator(by); err != nil {
		return txn.Wrap(actResolve, key.String(), txn.Invalid("%w", err))
	}
	if err := o.checkConflict(ctx, key); err != nil {
		return txn.Wrap(actResolve, key.String(), err)
	}
	act := txlog.Act{GID: gid, Name: actResolve, Who: by.Who, Why: by.Why, BranchID: branchID, Believed: string(believed)}
	return o.record(ctx, act, func(tx *gorm.DB, r txlog.Record) error { return o.resolve(ctx, tx, saga.State(r.State), key) })
}

// resolve marks the branch of a locked transaction as done, if its last call was a conflict.
func (o *operators) resolve(ctx context.Context, tx *gorm.DB, state saga.State, key barrier.Key) error {
	if _, err := endOf(state, ""); err != nil {
		return err
	}
	b, named, err := o.log.Named(ctx, tx, key.GID, key.BranchID)
	switch {
	case err != nil:
		return err
	case !named:
		return fmt.Errorf("it has no branch %s: %w", key.BranchID, saga.ErrRefused)
	case !b.DoneAt.IsZero():
		return fmt.Errorf("branch %s is done already: %w", key.BranchID, saga.ErrRefused)
	}
	op, err := endOf(state, saga.Role(b.Role))
	if err != nil {
		return err
	}
	attempts, err := o.log.Attempts(ctx, tx, key.GID)
	if err != nil {
		return err
	}
	if !lastIsConflict(attempts[key.GID], key.BranchID, op) {
		return fmt.Errorf("the last %s of branch %s did not fail with a conflict, and is repeated until it succeeds: %w", op, key.BranchID, saga.ErrRefused)
	}
	if err := o.log.Done(ctx, tx, key.GID, key.BranchID); err != nil {
		return err
	}
	// The transaction is due now, and its next driver reads that the branch is done.
	return o.log.Retry(ctx, tx, key.GID)
}

// endOf returns the operation that ends a branch of a decided transaction.
func endOf(state saga.State, role saga.Role) (barrier.Op, error) {
	switch state {
	case saga.Confirming:
		if role == saga.RoleAfter {
			return barrier.Apply, nil
		}
		return barrier.Confirm, nil
	case saga.Cancelling:
		return barrier.Cancel, nil
	case saga.Trying:
		return "", fmt.Errorf("it is undecided: %w", saga.ErrRefused)
	default:
		return "", fmt.Errorf("it is %s already: %w", state, saga.ErrRefused)
	}
}

// lastIsConflict reports whether the last call of an operation of a branch failed with a
// conflict.
func lastIsConflict(attempts []txlog.Attempt, branchID string, op barrier.Op) bool {
	conflict := false
	for _, a := range attempts { // in order
		if a.BranchID == branchID && a.Operation == string(op) {
			conflict = a.Code == saga.CodeConflict
		}
	}
	return conflict
}

// conflicts reports whether the last Confirm or Cancel of a branch failed with a conflict.
func conflicts(b saga.BranchView, state saga.State) bool {
	op, err := endOf(state, b.Role)
	conflict := false
	for _, a := range b.Attempts {
		if a.Operation == op {
			conflict = a.Code == saga.CodeConflict
		}
	}
	return err == nil && conflict
}

// checkConflict reads the barrier row of a branch, if this process can read it. It returns
// ErrRefused if the due call could succeed.
func (o *operators) checkConflict(ctx context.Context, key barrier.Key) error {
	t, err := o.viewer.Lookup(ctx, key.GID)
	if err != nil {
		return err
	}
	if t.State != saga.Confirming && t.State != saga.Cancelling {
		return nil // Resolve is refused because of the state
	}
	for _, b := range t.Branches {
		known, err := o.registry.Branch(b.Kind)
		if b.ID != key.BranchID || err != nil || known.Remote != nil || !b.DoneAt.IsZero() || !conflicts(b, t.State) {
			continue
		}
		c := saga.Call{GID: key.GID, BranchID: key.BranchID, Kind: b.Kind, Caller: o.logID, Payload: b.Payload}
		row, err := o.calls.ReadLocked(ctx, known, c)
		if err != nil {
			return fmt.Errorf("looking at the barrier: %w", err)
		}
		if row == nil && (t.State == saga.Cancelling || b.Role == saga.RoleAfter) || row != nil && row.State == barrier.StateTried && row.Matches(call.Request(c)) {
			return fmt.Errorf("the barrier says that the call can succeed: retry instead: %w", saga.ErrRefused)
		}
	}
	return nil
}
