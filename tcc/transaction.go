package tcc

import (
	"context"
	"errors"
	"fmt"

	"github.com/tccsaga/tccsaga/saga"
)

// Transaction is an open transaction: its branches are added one by one, and
// its decision comes later, perhaps in another process, or never; then it is
// cancelled at its deadline. It is not safe for concurrent use; the transaction
// behind it is, and any number of processes may hold one. Only [Begin] and
// [Join] make one that can be used.
type Transaction struct {
	engine saga.Engine
	gid    string
	next   int   // number of the next branch
	failed error // of the last Try that failed and was not repeated with success

	options saga.Options // of Confirm
}

// Begin opens a transaction. Beginning the same gid again gives the same
// transaction, from its start: repeated Trys, in the same order, are recognised
// and do nothing new. So a request that is repeated can simply run again.
func Begin(ctx context.Context, engine saga.Engine, gid string) (*Transaction, error) {
	return BeginWith(ctx, engine, gid, saga.Options{})
}

// BeginWith is Begin with options. ReturnDecided holds for Confirm of the Transaction that
// it returns.
func BeginWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options) (*Transaction, error) {
	if err := usable(ctx, engine); err != nil {
		return nil, fmt.Errorf("tcc: begin %s: %w", gid, err)
	}
	if err := engine.Begin(ctx, saga.Opening{GID: gid, Pattern: pattern, Timeout: options.Timeout}); err != nil {
		return nil, err
	}
	return &Transaction{engine: engine, gid: gid, next: 1, options: confirming(options)}, nil
}

// Join returns an open transaction that was begun before, here or in another
// process, so that further branches can be added or the decision made. If it
// is decided by now, Confirm and Cancel tell. An unknown gid matches
// [saga.ErrNotFound].
func Join(ctx context.Context, engine saga.Engine, gid string) (*Transaction, error) {
	return JoinWith(ctx, engine, gid, saga.Options{})
}

// JoinWith is Join with options. ReturnDecided holds for Confirm of the Transaction that it
// returns. A Timeout is refused: the deadline was set when the transaction was begun.
func JoinWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options) (*Transaction, error) {
	if err := usable(ctx, engine); err != nil {
		return nil, fmt.Errorf("tcc: join %s: %w", gid, err)
	}
	if options.Timeout != 0 {
		return nil, fmt.Errorf("tcc: join %s: the deadline was set by Begin, a Timeout has no effect here: %w", gid, saga.ErrInvalid)
	}
	found, err := engine.Lookup(ctx, gid)
	if err != nil {
		return nil, fmt.Errorf("tcc: join: %w", err)
	}
	if found.Pattern != pattern {
		return nil, fmt.Errorf("tcc: join %s: it follows the pattern %q: %w", gid, found.Pattern, saga.ErrMismatch)
	}
	return &Transaction{engine: engine, gid: gid, next: len(found.Branches) + 1, options: confirming(options)}, nil
}

// confirming are the options that are left for Confirm.
func confirming(options saga.Options) saga.Options {
	options.Timeout = 0
	return options
}

// GID returns the transaction's global id.
func (t *Transaction) GID() string { return t.gid }

// usable refuses a call that would only panic later.
func (t *Transaction) usable(ctx context.Context, what string) error {
	if t == nil || t.engine == nil {
		return fmt.Errorf("tcc: %s: the Transaction is empty, it has to come from Begin or Join, without an error: %w", what, saga.ErrInvalid)
	}
	if err := usable(ctx, t.engine); err != nil {
		return fmt.Errorf("tcc: %s %s: %w", what, t.gid, err)
	}
	return nil
}

// Try adds a branch and tries it. After an error it may be called again with
// the same payload, unless the branch rejected it; the other way out is Cancel.
// A transaction that is decided, or past its deadline, matches
// [saga.ErrNotOpen].
func (t *Transaction) Try(ctx context.Context, payload Payload) error {
	if err := t.usable(ctx, "try"); err != nil {
		return err
	}
	step, err := stepOf(payload)
	if err != nil {
		return fmt.Errorf("tcc: try in %s: %w", t.gid, err)
	}
	if t.next > saga.MaxBranches {
		return fmt.Errorf("tcc: try in %s: it has %d branches already: %w", t.gid, saga.MaxBranches, saga.ErrInvalid)
	}
	if rejected(t.failed) {
		return fmt.Errorf("tcc: try in %s: a branch has rejected, only Cancel is left: %w", t.gid, saga.ErrNotOpen)
	}
	err = t.engine.Try(ctx, t.gid, saga.BranchID(t.next), step)
	if errors.Is(err, saga.ErrInvalid) {
		return err // nothing was written
	}
	if t.failed = err; err == nil {
		t.next++
	}
	return err
}

func rejected(err error) bool {
	var rejection *saga.Rejection
	return errors.As(err, &rejection)
}

// Confirm decides to confirm, and confirms every branch.
//
// No error means that the transaction is decided to be confirmed, by this call or
// an earlier one. Whether it is confirmed already, or still confirming, is in
// [saga.Outcome.Finished]; see [Execute].
//
// A deadline that has passed, or another decision, matches [saga.ErrCancelled].
// After a Try of this Transaction that failed, Confirm is refused with its error;
// if a Try has failed or is still under way elsewhere, the error matches
// [saga.ErrNotTried]. If the decision could not be learned it matches
// [saga.ErrUnknown]: call Confirm again.
func (t *Transaction) Confirm(ctx context.Context) (saga.Outcome, error) {
	return t.ConfirmWith(ctx, t.options)
}

// ConfirmWith is Confirm with options, instead of those that the transaction was begun or
// joined with: LocalWork runs in the local transaction that decides, and ReturnDecided
// returns with the decision.
func (t *Transaction) ConfirmWith(ctx context.Context, options saga.Options) (saga.Outcome, error) {
	if err := t.usable(ctx, "confirm"); err != nil {
		return saga.Outcome{}, err
	}
	if t.failed != nil && !errors.Is(t.failed, saga.ErrNotOpen) { // it is decided then, and Confirm tells how
		return saga.Outcome{GID: t.gid, State: saga.Trying}, fmt.Errorf("tcc: confirm %s: a Try has failed, repeat it or cancel: %w", t.gid, t.failed)
	}
	return t.engine.Confirm(ctx, t.gid, options)
}

// Cancel decides to cancel, and cancels every branch. No error means that the
// transaction is decided so, by this call or an earlier one, or by the deadline;
// [saga.Outcome.Finished] says whether every branch is cancelled already. After a
// decision to confirm the error matches [saga.ErrConfirmed].
func (t *Transaction) Cancel(ctx context.Context, reason string) (saga.Outcome, error) {
	if err := t.usable(ctx, "cancel"); err != nil {
		return saga.Outcome{}, err
	}
	outcome, err := t.engine.Cancel(ctx, t.gid, reason)
	if err == nil {
		t.failed = nil // a Confirm is now told of the cancel
	}
	return outcome, err
}
