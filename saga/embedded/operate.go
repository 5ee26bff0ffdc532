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

// operators has what people do to transactions and kinds of branches by hand.
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

// Retry makes every unfinished branch of a decided transaction due now, instead
// of at its next attempt, and takes back its attention. Limits still hold.
func (o *operators) Retry(ctx context.Context, gid string, by saga.Operator) error {
	return o.actOn(ctx, gid, actRetry, by, func(tx *gorm.DB, r txlog.Record) error {
		switch state := saga.State(r.State); {
		case !state.Decided():
			return fmt.Errorf("it is undecided, and there is nothing to retry before the decision: %w", saga.ErrRefused)
		case state.Finished():
			return fmt.Errorf("it is %s already: %w", state, saga.ErrRefused)
		case r.Paused():
			return fmt.Errorf("it is paused; resume it: %w", saga.ErrRefused)
		}
		return o.log.Retry(ctx, tx, gid)
	})
}

// Pause keeps a transaction's branches from being called, by any instance,
// until Resume; calls under way come to their end. Its decision is not held up:
// an undecided transaction is still cancelled at its deadline, and the Cancels
// then wait.
func (o *operators) Pause(ctx context.Context, gid string, by saga.Operator) error {
	return o.actOn(ctx, gid, actPause, by, func(tx *gorm.DB, r txlog.Record) error {
		switch {
		case saga.State(r.State).Finished():
			return fmt.Errorf("it is %s already: %w", r.State, saga.ErrRefused)
		case r.Paused():
			return fmt.Errorf("it is paused already: %w", saga.ErrRefused)
		}
		return o.log.Pause(ctx, tx, gid)
	})
}

// Resume undoes Pause. What is due goes on at once.
func (o *operators) Resume(ctx context.Context, gid string, by saga.Operator) error {
	return o.actOn(ctx, gid, actResume, by, func(tx *gorm.DB, r txlog.Record) error {
		if !r.Paused() {
			return fmt.Errorf("it is not paused: %w", saga.ErrRefused)
		}
		return o.log.Resume(ctx, tx, gid)
	})
}

// Decide makes the decision of a transaction that is stuck without one: state
// is Confirming or Cancelling. It goes the same way as every decision, so it
// is refused if there is one already, with [ErrCancelled], [ErrConfirmed] or, if it
// is the same, [ErrRefused];
// confirming also if a branch has not been tried with success, after the
// deadline, and while the transaction is executed with a plan, which decides by
// itself.
func (o *operators) Decide(ctx context.Context, gid string, state saga.State, by saga.Operator) (saga.Outcome, error) {
	outcome, err := o.decide(ctx, gid, state, by)
	return outcome, txn.Wrap("decide", gid, err)
}

func (o *operators) decide(ctx context.Context, gid string, state saga.State, by saga.Operator) (saga.Outcome, error) {
	if err := checkOperator(by); err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	switch act := (&txlog.Act{GID: gid, Who: by.Who, Why: by.Why}); state {
	case saga.Confirming:
		act.Name = actConfirm
		return o.opened.confirm(ctx, gid, txlog.ByOperator, wish{act: act})
	case saga.Cancelling:
		act.Name = actCancel
		return o.opened.cancel(ctx, gid, txlog.ByOperator, reason.Reason{Text: "cancelled by " + by.Who + ": " + by.Why, Code: saga.CodeOperator}, wish{act: act})
	default:
		return saga.Outcome{}, txn.Invalid("the decision is %q, it must be Confirming or Cancelling", string(state))
	}
}

// PauseKind keeps all branches of a kind from being called, in every instance,
// until ResumeKind: Confirms and Cancels wait, and new transactions and Trys
// with the kind are refused with [ErrPaused]. Instances learn of it within
// [Config.Poll]; calls under way come to their end. The kind need not be
// registered here.
func (o *operators) PauseKind(ctx context.Context, kind string, by saga.Operator) error {
	return o.actOnKind(ctx, kind, actPause, by, func(tx *gorm.DB) error { return o.log.PauseKind(ctx, tx, kind) })
}

// ResumeKind undoes PauseKind. What waits goes on within [Config.MaxBackoff].
func (o *operators) ResumeKind(ctx context.Context, kind string, by saga.Operator) error {
	return o.actOnKind(ctx, kind, actResume, by, func(tx *gorm.DB) error {
		paused, err := o.log.ResumeKind(ctx, tx, kind)
		if err == nil && !paused {
			err = fmt.Errorf("it is not paused: %w", saga.ErrRefused)
		}
		return err
	})
}

// PausedKinds returns the kinds of branch that are paused, in order.
func (o *operators) PausedKinds(ctx context.Context) ([]string, error) {
	if err := o.paused.Read(ctx); err != nil {
		return nil, txn.Wrap("paused kinds", "", err)
	}
	return o.paused.List(), nil
}

// actOn does something to a transaction that it has locked, and records it.
func (o *operators) actOn(ctx context.Context, gid, act string, by saga.Operator, do func(tx *gorm.DB, r txlog.Record) error) error {
	if err := barrier.ValidateGID(gid); err != nil {
		return txn.Wrap(act, gid, txn.Invalid("%w", err))
	}
	if err := checkOperator(by); err != nil {
		return txn.Wrap(act, gid, txn.Invalid("%w", err))
	}
	return o.record(ctx, txlog.Act{GID: gid, Name: act, Who: by.Who, Why: by.Why}, do)
}

// record does an act on a transaction that it has locked, and writes it down.
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

// checkOperator says what is wrong with an operator, if anything.
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
