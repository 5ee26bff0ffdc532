package tcc

import (
	"context"
	"errors"
	"fmt"

	"github.com/tccsaga/tccsaga/saga"
)

// Transaction is an open transaction. Its branches are added one by one, and it is
// decided later, perhaps in another process. If nobody decides, it is cancelled at its
// deadline.
//
// [Begin] and [Join] return a Transaction; the zero value cannot be used. A Transaction is
// not safe for concurrent use. But several goroutines or processes may each have a
// Transaction for the same gid.
type Transaction struct {
	engine saga.Engine
	gid    string
	next   int   // number of the next branch
	failed error // of the last Try that failed and did not succeed later

	options saga.Options // of Confirm
}

// Begin opens a transaction. If you begin the same gid again, you get the same
// transaction, from its first branch. Repeated Trys in the same order do nothing new. So
// a repeated request can run the same code again.
func Begin(ctx context.Context, engine saga.Engine, gid string) (*Transaction, error) {
	return BeginWith(ctx, engine, gid, saga.Options{})
}

// BeginWith is Begin with options. ReturnDecided and LocalWork apply to Confirm of the
// Transaction that it returns, and Timeout and Labels to the begin.
func BeginWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options) (*Transaction, error) {
	if err := Usable(ctx, engine); err != nil {
		return nil, fmt.Errorf("tcc: begin %s: %w", gid, err)
	}
	if err := engine.Begin(ctx, saga.Opening{GID: gid, Pattern: pattern, Timeout: options.Timeout, Labels: options.Labels}); err != nil {
		return nil, err
	}
	return &Transaction{engine: engine, gid: gid, next: 1, options: confirming(options)}, nil
}

// Join returns a transaction that was begun earlier, in this process or in another one.
// You can add branches, or decide it. If it is decided already, Confirm and Cancel return
// the decision. If the gid is unknown, the error matches [saga.ErrNotFound].
func Join(ctx context.Context, engine saga.Engine, gid string) (*Transaction, error) {
	return JoinWith(ctx, engine, gid, saga.Options{})
}

// JoinWith is Join with options. ReturnDecided and LocalWork apply to Confirm of the
// Transaction that it returns. A Timeout and Labels are refused: Begin has set them.
func JoinWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options) (*Transaction, error) {
	if err := Usable(ctx, engine); err != nil {
		return nil, fmt.Errorf("tcc: join %s: %w", gid, err)
	}
	if options.Timeout != 0 {
		return nil, fmt.Errorf("tcc: join %s: a Timeout has no effect, because Begin has set the deadline: %w", gid, saga.ErrInvalid)
	}
	if len(options.Labels) > 0 {
		return nil, fmt.Errorf("tcc: join %s: Labels have no effect, because Begin has set them: %w", gid, saga.ErrInvalid)
	}
	found, err := engine.Lookup(ctx, gid)
	if err != nil {
		return nil, err
	}
	if found.Pattern != pattern {
		return nil, fmt.Errorf("tcc: join %s: its pattern is %q: %w", gid, found.Pattern, saga.ErrMismatch)
	}
	return &Transaction{engine: engine, gid: gid, next: len(found.Branches) + 1, options: confirming(options)}, nil
}

// confirming returns the options that Confirm takes.
func confirming(options saga.Options) saga.Options {
	options.Timeout, options.Labels = 0, nil
	return options
}

// GID returns the transaction's global id.
func (t *Transaction) GID() string { return t.gid }

// usable refuses a call that would cause a panic later.
func (t *Transaction) usable(ctx context.Context, what string) error {
	if t == nil || t.engine == nil {
		return fmt.Errorf("tcc: %s: the Transaction is empty: use one that Begin or Join returned without an error: %w", what, saga.ErrInvalid)
	}
	if err := Usable(ctx, t.engine); err != nil {
		return fmt.Errorf("tcc: %s %s: %w", what, t.gid, err)
	}
	return nil
}

// Try adds a branch and tries it. After an error, call Try again with the same payload,
// or Cancel. If the branch rejected, only Cancel is possible. If the transaction is
// decided, or past its deadline, the error matches [saga.ErrNotOpen].
func (t *Transaction) Try(ctx context.Context, payload Payload) error {
	if err := t.usable(ctx, "try"); err != nil {
		return err
	}
	step, err := StepOf(payload)
	if err != nil {
		return fmt.Errorf("tcc: try %s: %w", t.gid, err)
	}
	if t.next > saga.MaxBranches {
		return fmt.Errorf("tcc: try %s: it has %d branches already: %w", t.gid, saga.MaxBranches, saga.ErrInvalid)
	}
	if rejected(t.failed) {
		return fmt.Errorf("tcc: try %s: a branch has rejected, call Cancel: %w", t.gid, saga.ErrNotOpen)
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
// If the error is nil, this call or an earlier one has decided to confirm the
// transaction. [saga.Outcome.Finished] reports whether every branch is confirmed; see
// [Execute].
//
// If the transaction is decided to be cancelled, or its deadline has passed, the error
// matches [saga.ErrCancelled]. If a Try of this Transaction failed, Confirm is refused
// with the error of that Try. If a Try of another Transaction for the same gid failed, or
// is under way, the error matches [saga.ErrNotTried]. If the decision is unknown, the
// error matches [saga.ErrUnknown]: call Confirm again.
func (t *Transaction) Confirm(ctx context.Context) (saga.Outcome, error) {
	return t.ConfirmWith(ctx, t.options)
}

// ConfirmWith is Confirm with other options than those of BeginWith or JoinWith. LocalWork
// runs in the local transaction that decides.
func (t *Transaction) ConfirmWith(ctx context.Context, options saga.Options) (saga.Outcome, error) {
	if err := t.usable(ctx, "confirm"); err != nil {
		return saga.Outcome{}, err
	}
	// After ErrNotOpen, the transaction is decided: the engine returns the decision.
	if t.failed != nil && !errors.Is(t.failed, saga.ErrNotOpen) {
		return saga.Outcome{GID: t.gid, State: saga.Trying}, fmt.Errorf("tcc: confirm %s: a Try has failed, repeat it or cancel: %w", t.gid, t.failed)
	}
	return t.engine.Confirm(ctx, t.gid, options)
}

// Cancel decides to cancel, and cancels every branch. If the error is nil, this call, an
// earlier one or the deadline has decided so. [saga.Outcome.Finished] reports whether
// every branch is cancelled. If the transaction is decided to be confirmed, the error
// matches [saga.ErrConfirmed].
func (t *Transaction) Cancel(ctx context.Context, reason string) (saga.Outcome, error) {
	if err := t.usable(ctx, "cancel"); err != nil {
		return saga.Outcome{}, err
	}
	outcome, err := t.engine.Cancel(ctx, t.gid, reason)
	if err == nil {
		t.failed = nil // so that Confirm asks the engine, and returns ErrCancelled
	}
	return outcome, err
}
