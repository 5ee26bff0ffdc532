package embedded

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/recovery"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// operators has the methods for operators.
type operators struct {
	opened   *opened
	viewer   *viewer
	db       *gorm.DB
	log      *txlog.Log
	logID    string
	paused   *pause.Kinds
	registry *txn.Registry
	calls    *call.Caller
	wake     *recovery.Waker
}

// Names of acts in the log.
const (
	actRetry   = "retry"
	actPause   = "pause"
	actResume  = "resume"
	actConfirm = "confirm"
	actCancel  = "cancel"
	actResolve = "resolve"
)

// Retry makes every unfinished branch of a decided transaction due now, instead of at its
// next attempt, and clears the transaction's attention. The [Limits] still apply.
func (o *operators) Retry(ctx context.Context, gid string, by saga.Operator) error {
	return o.actOn(ctx, gid, actRetry, by)
}

// Pause stops the calls of a transaction's branches, in every instance, until Resume. Calls
// under way go on to their end. Pause does not delay the decision: an undecided transaction
// is still cancelled at its deadline, and the Cancels wait for Resume.
func (o *operators) Pause(ctx context.Context, gid string, by saga.Operator) error {
	return o.actOn(ctx, gid, actPause, by)
}

// Resume undoes Pause. Due branches are called at once.
func (o *operators) Resume(ctx context.Context, gid string, by saga.Operator) error {
	return o.actOn(ctx, gid, actResume, by)
}

// Decide decides a transaction that stays undecided. State is Confirming or Cancelling. It is
// the same compare-and-set as every decision. If the transaction is decided already, Decide
// returns an error that matches [saga.ErrCancelled] or [saga.ErrConfirmed], or
// [saga.ErrRefused] if the decision is the same.
//
// A decision to confirm is also refused if a branch has not been tried with success, after
// the deadline, and while Execute runs the transaction.
//
// Warning: a nested transaction is decided by its parent, which may decide otherwise or has done
// so. Decide it by hand only if the parent is lost for good; see package nested. A decision to
// confirm it is refused before it is prepared.
func (o *operators) Decide(ctx context.Context, gid string, state saga.State, by saga.Operator) (saga.Outcome, error) {
	outcome, err := o.decide(ctx, gid, state, by)
	return outcome, txn.Wrap("decide", gid, err)
}

func (o *operators) decide(ctx context.Context, gid string, state saga.State, by saga.Operator) (saga.Outcome, error) {
	if err := checkOperator(by); err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	act := &txlog.Act{GID: gid, Who: by.Who, Why: by.Why}
	switch state {
	case saga.Confirming:
		act.Name = actConfirm
	case saga.Cancelling:
		act.Name = actCancel
	default:
		return saga.Outcome{}, txn.Invalid("the decision is %q, it must be Confirming or Cancelling", string(state))
	}
	return o.decideWith(ctx, extras{act: act})
}

// decideWith makes the decision of an act, and records the act with it.
func (o *operators) decideWith(ctx context.Context, x extras) (saga.Outcome, error) {
	act := x.act
	if act.Name == actConfirm {
		return o.opened.confirm(ctx, act.GID, txlog.ByOperator, x)
	}
	return o.opened.cancel(ctx, act.GID, txlog.ByOperator, reason.Reason{Text: "cancelled by " + act.Who + ": " + act.Why, Code: saga.CodeOperator}, x)
}

// PauseKind stops the calls of all branches of a kind, in every instance, until ResumeKind.
// Confirms and Cancels wait, and new transactions and Trys with the kind are refused with
// [saga.ErrPaused]. Other instances read it within [Config.Poll]. Calls under way go on to
// their end. The kind need not be registered in this process.
func (o *operators) PauseKind(ctx context.Context, kind string, by saga.Operator) error {
	return o.actOnKind(ctx, kind, actPause, by, func(tx *gorm.DB) error { return o.log.PauseKind(ctx, tx, kind) })
}

// ResumeKind undoes PauseKind. The waiting branches are called within [Config.MaxBackoff].
func (o *operators) ResumeKind(ctx context.Context, kind string, by saga.Operator) error {
	return o.actOnKind(ctx, kind, actResume, by, func(tx *gorm.DB) error {
		paused, err := o.log.ResumeKind(ctx, tx, kind)
		if err == nil && !paused {
			err = fmt.Errorf("it is not paused: %w", saga.ErrRefused)
		}
		return err
	})
}

// PausedKinds returns the paused kinds of branches, sorted.
func (o *operators) PausedKinds(ctx context.Context) ([]string, error) {
	if err := o.paused.Read(ctx); err != nil {
		return nil, txn.Wrap("paused kinds", "", err)
	}
	return o.paused.List(), nil
}

// change makes the change of a retry, pause or resume to a locked transaction.
func (o *operators) change(ctx context.Context, tx *gorm.DB, act string, r txlog.Record) error {
	var why string
	var do func(context.Context, *gorm.DB, string) error
	switch state, paused := saga.State(r.State), r.Paused(); act {
	case actRetry:
		why, do = refusalOfRetry(state, paused), o.log.Retry
	case actPause:
		why, do = refusalOfPause(state, paused), o.log.Pause
	case actResume:
		why, do = refusalOfResume(paused), o.log.Resume
	}
	if why != "" {
		return fmt.Errorf("%s: %w", why, saga.ErrRefused)
	}
	return do(ctx, tx, r.GID)
}

// actOn locks a transaction, changes it, and records the act.
func (o *operators) actOn(ctx context.Context, gid, act string, by saga.Operator) error {
	if err := barrier.ValidateGID(gid); err != nil {
		return txn.Wrap(act, gid, txn.Invalid("%w", err))
	}
	if err := checkOperator(by); err != nil {
		return txn.Wrap(act, gid, txn.Invalid("%w", err))
	}
	return o.record(ctx, txlog.Act{GID: gid, Name: act, Who: by.Who, Why: by.Why}, func(tx *gorm.DB, r txlog.Record) error { return o.change(ctx, tx, act, r) })
}

// record locks a transaction, does something to it, and records the act, in one local
// transaction.
func (o *operators) record(ctx context.Context, act txlog.Act, do func(tx *gorm.DB, r txlog.Record) error) error {
	gid := act.GID
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		record, err := o.log.GetLocked(ctx, tx, gid)
		if errors.Is(err, txlog.ErrNotFound) {
			return saga.ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := do(tx, record); err != nil {
			return err
		}
		return o.log.Record(ctx, tx, act)
	})
	if err != nil {
		return txn.Wrap(act.Name, gid, err)
	}
	o.wake.After(0)
	return nil
}

// actOnKind does something to a kind of branch, and records the act.
func (o *operators) actOnKind(ctx context.Context, kind, act string, by saga.Operator, do func(tx *gorm.DB) error) error {
	if err := saga.ValidateKind(kind); err != nil {
		return txn.Wrap(act, "", txn.Invalid("%w", err))
	}
	if err := checkOperator(by); err != nil {
		return txn.Wrap(act, kind, txn.Invalid("%w", err))
	}
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		if err := do(tx); err != nil {
			return err
		}
		return o.log.Record(ctx, tx, txlog.Act{Kind: kind, Name: act, Who: by.Who, Why: by.Why})
	})
	if err == nil {
		err = o.paused.Read(ctx)
	}
	if err != nil {
		return txn.Wrap(act, kind, err)
	}
	return nil
}

// checkOperator returns an error if an operator is not valid.
func checkOperator(by saga.Operator) error {
	for _, text := range []struct {
		name, value string
		most        int
	}{{"Who", by.Who, 128}, {"Why", by.Why, 1024}} {
		switch n := utf8.RuneCountInString(text.value); {
		case n == 0:
			return fmt.Errorf("the Operator.%s is empty: acts are recorded with who and why", text.name)
		case n > text.most:
			return fmt.Errorf("the Operator.%s has %d characters, %d are allowed", text.name, n, text.most)
		case reason.ClipTo(text.value, text.most) != text.value:
			return fmt.Errorf("the Operator.%s is not UTF-8 text", text.name)
		}
	}
	return nil
}
