package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// nesting has the methods for nested transactions.
type nesting struct {
	opened       *opened
	attentionAge time.Duration
}

var _ saga.ChildEngine = (*Engine)(nil)

// nestedPattern names nested transactions in the log.
const nestedPattern = "nested"

// checkParent returns an error if the parent of an opening is not valid. It sets the pattern
// of a nested transaction.
func checkParent(opening *saga.Opening) error {
	switch parent := opening.Parent; {
	case parent == "":
		return nil
	case opening.Pattern != "":
		return fmt.Errorf("the pattern is %q, it must be empty for a nested transaction", opening.Pattern)
	case len(parent) > saga.MaxParent:
		return fmt.Errorf("the parent has %d characters, %d are allowed", len(parent), saga.MaxParent)
	case strings.ContainsFunc(parent, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("the parent %q has a character that is not printable ASCII, or a space", parent)
	}
	opening.Pattern = nestedPattern
	return nil
}

// insertNested inserts a transaction, and names its parent, if it has one.
func insertNested(ctx context.Context, tx *gorm.DB, log *txlog.Log, start txlog.Start, parent string) error {
	if err := log.Insert(ctx, tx, start); err != nil || parent == "" {
		return err
	}
	return log.Nest(ctx, tx, start.GID, parent)
}

// notTheDecider is the error of a decision that the caller may not make.
type notTheDecider struct{ why error }

func (e *notTheDecider) Error() string { return e.why.Error() }
func (e *notTheDecider) Unwrap() error { return e.why }

// checkDecider returns a *notTheDecider if the caller may not make the decision d of a locked
// transaction. It also does so if the caller names another parent than the transaction has,
// whatever its state.
func checkDecider(record txlog.Record, d txlog.Decision, x extras) error {
	refuse := func(format string, arguments ...any) error {
		return &notTheDecider{fmt.Errorf(format, arguments...)}
	}
	switch unprepared := d.State == txlog.Confirming && record.PreparedAt.IsZero(); {
	case begunAfter(record, x.listed):
		return refuse("%w", errBegunAfter)
	case x.parent != "" && record.Parent == "":
		return refuse("the gid is of a transaction that is not nested: %w", barrier.ErrConflict)
	case x.parent != "" && x.parent != record.Parent:
		return refuse("it is nested in %s, and not in %s: %w", record.Parent, x.parent, barrier.ErrConflict)
	case record.Parent == "" || saga.State(record.State).Decided():
		return nil
	case x.parent == "" && x.act == nil:
		return refuse("it is nested in %s, which decides it: %w", record.Parent, saga.ErrNotOpen)
	case unprepared && x.act != nil:
		return refuse("it is not prepared, so its parent %s cannot be confirmed: %w", record.Parent, saga.ErrRefused)
	case unprepared:
		return refuse("it is not prepared: %w", barrier.ErrConflict)
	}
	return nil
}

// Prepare prepares a nested transaction; see [saga.ChildEngine]. If nobody decides it within
// [Config.AttentionAge], it is raised to attention, and stays prepared.
func (n *nesting) Prepare(ctx context.Context, gid string, branches int) error {
	ctx, ended := n.opened.observe.Operation(ctx, "prepare", gid)
	err := n.enter(ctx, gid, func(ctx context.Context) (err error) {
		for run := 1; ; run++ {
			err = local.Run(ctx, n.opened.db, func(tx *gorm.DB) error { return n.prepare(ctx, tx, gid, branches) })
			if run == txn.MaxRuns || !errors.Is(err, local.ErrCommitUnknown) {
				return err
			}
		}
	})
	ended(err)
	return txn.Wrap("prepare", gid, err)
}

// enter admits a call that writes.
func (n *nesting) enter(ctx context.Context, gid string, call func(context.Context) error) error {
	if err := barrier.ValidateGID(gid); err != nil {
		return txn.Invalid("%w", err)
	}
	ctx, leave, err := n.opened.admission.enter(ctx, true)
	if err != nil {
		return err
	}
	return awaitError(ctx, gid, func() error {
		defer leave()
		return call(ctx)
	})
}

func (n *nesting) prepare(ctx context.Context, tx *gorm.DB, gid string, branches int) error {
	record, err := n.opened.log.GetLocked(ctx, tx, gid)
	switch state := saga.State(record.State); {
	case errors.Is(err, txlog.ErrNotFound):
		return saga.ErrNotFound
	case err != nil:
		return err
	case record.Parent == "":
		return txn.Invalid("it is not nested")
	case isCancelled(state):
		return fmt.Errorf("it is %s: %w: %w", state, saga.ErrNotOpen, follow.Outcome(record).Err(nil))
	case record.Expired:
		return fmt.Errorf("its deadline has passed: %w", saga.ErrNotOpen)
	}
	named, err := n.opened.log.LockedBranches(ctx, tx, gid)
	switch {
	case err != nil:
		return err
	case len(named[gid]) != branches:
		return fmt.Errorf("it has %d branches, and its plan has %d: it is %w", len(named[gid]), branches, saga.ErrMismatch)
	case !record.PreparedAt.IsZero():
		return nil
	}
	for _, b := range named[gid] {
		if !b.Tried {
			return fmt.Errorf("branch %s, %s: %w", b.ID, b.Kind, saga.ErrNotTried)
		}
	}
	err = n.opened.log.Prepare(ctx, tx, gid, n.attentionAge)
	if errors.Is(err, txlog.ErrStale) { // the row is locked: only the time has gone on
		return fmt.Errorf("its deadline has passed: %w", saga.ErrNotOpen)
	}
	return err
}

// ConfirmNested decides to confirm a nested transaction for its parent; see
// [saga.ChildEngine].
func (n *nesting) ConfirmNested(ctx context.Context, gid, parent string) error {
	ctx, ended := n.opened.observe.Operation(ctx, "confirm nested", gid)
	err := n.confirm(ctx, gid, parent)
	ended(err)
	return txn.Wrap("confirm nested", gid, err)
}

func (n *nesting) confirm(ctx context.Context, gid, parent string) error {
	outcome, err := n.decide(ctx, txlog.Decision{GID: gid, State: txlog.Confirming}, parent)
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return fmt.Errorf("%w: %w", err, barrier.ErrConflict)
	case err == nil && isCancelled(outcome.State):
		return fmt.Errorf("it is %s, %s: %w", outcome.State, outcome.Reason, barrier.ErrConflict)
	}
	return err
}

// decide makes a decision of the parent. It returns when the decision is durable.
func (n *nesting) decide(ctx context.Context, d txlog.Decision, parent string) (saga.Outcome, error) {
	if parent == "" {
		return saga.Outcome{}, txn.Invalid("the parent is empty")
	}
	d.By = txlog.ByCaller
	return n.opened.decide(ctx, d, extras{parent: parent, returnDecided: true})
}

// CancelNested decides to cancel a nested transaction for its parent; see
// [saga.ChildEngine].
func (n *nesting) CancelNested(ctx context.Context, gid, parent string) error {
	ctx, ended := n.opened.observe.Operation(ctx, "cancel nested", gid)
	err := n.cancel(ctx, gid, parent)
	ended(err)
	return txn.Wrap("cancel nested", gid, err)
}

const parentCancelled = "its parent is cancelled"

func (n *nesting) cancel(ctx context.Context, gid, parent string) error {
	for run := 1; ; run++ {
		outcome, err := n.decide(ctx, txlog.Decision{GID: gid, State: txlog.Cancelling, Reason: parentCancelled, Code: saga.CodeParent}, parent)
		switch {
		case err == nil && !isCancelled(outcome.State):
			return fmt.Errorf("it is %s: %w", outcome.State, barrier.ErrConflict)
		case !errors.Is(err, saga.ErrNotFound):
			return err
		}
		err = n.suspend(ctx, gid, parent)
		// A Try may have begun it meanwhile, or the first run was committed.
		again := errors.Is(err, txlog.ErrExists) || errors.Is(err, local.ErrCommitUnknown)
		if !again || run == txn.MaxRuns {
			return err
		}
	}
}

// suspend records a nested transaction that no Try has begun as cancelled. So a Try that
// arrives later cannot begin it.
func (n *nesting) suspend(ctx context.Context, gid, parent string) error {
	opening := saga.Opening{GID: gid, Parent: parent}
	if err := checkParent(&opening); err != nil {
		return txn.Invalid("%w", err)
	}
	return n.enter(ctx, gid, func(ctx context.Context) error {
		start := txlog.Start{GID: gid, Pattern: opening.Pattern, State: txlog.Cancelled, Reason: parentCancelled, Code: saga.CodeParent, DecidedBy: txlog.ByCaller}
		return local.Run(ctx, n.opened.db, func(tx *gorm.DB) error { return insertNested(ctx, tx, n.opened.log, start, parent) })
	})
}
