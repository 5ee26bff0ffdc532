package tcc

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// pattern names the transactions of this package in the log.
const pattern = "tcc"

// Execute runs a transaction with one branch for each payload. It calls every Try and
// decides. Then it confirms all branches, or cancels all if a Try failed.
//
// If the error is nil, the transaction is decided to be confirmed. It may not be
// finished yet: the engine calls each Confirm until it succeeds. Look at the outcome:
//
//	outcome, err := tcc.Execute(ctx, engine, gid, payloads...)
//	switch {
//	case errors.Is(err, saga.ErrCancelled): // cancelled: every reservation is given back in the end
//	case errors.Is(err, saga.ErrUnknown):   // call Execute again with the same gid
//	case err != nil:                        // not begun: the error says why
//	case outcome.Finished():                // every branch is confirmed
//	default:                                // decided, and not finished yet: saga.Confirming
//	}
//
// In the last two cases the caller may promise the result. In the last case it must not yet
// read the data that a Confirm writes, or report the work as done.
//
// The error of a cancelled transaction is a [*saga.CancelledError] with the reason. If
// a branch rejected with [RejectCode], the error wraps a [*saga.Rejection] with the code.
//
// The gid names the transaction. It has up to 128 printable ASCII characters, without
// spaces and slashes. If you execute the same gid with the same payloads again, nothing
// new happens, and you get the outcome of the same transaction. With other payloads, or
// with the same payloads under another kind, the error matches [saga.ErrMismatch].
func Execute(ctx context.Context, engine saga.Engine, gid string, payloads ...Payload) (saga.Outcome, error) {
	return ExecuteWith(ctx, engine, gid, saga.Options{}, payloads...)
}

// ExecuteWith is Execute with options. For local work in another database than the engine's,
// register it with [saga.NewDatabase], and name it in LocalWorkIn.
func ExecuteWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options, payloads ...Payload) (saga.Outcome, error) {
	plan, err := planOf(ctx, engine, gid, payloads)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.Execute(ctx, plan)
}

// ExecuteIn is [Execute] in a local transaction of the caller, such as the tx of
// db.Transaction, on the engine's database. If the caller commits, the transaction is
// decided to be confirmed; if not, nothing has happened. So a row of your own and a message
// are both there, or neither:
//
//	err := db.Transaction(func(tx *gorm.DB) error {
//		if err := tx.Create(&order).Error; err != nil {
//			return err
//		}
//		_, err := tcc.ExecuteIn(ctx, engine, tx, "order-1001", message.Publish{...})
//		return err
//	})
//
// Every Try runs in tx, so each branch has to be in the engine's own database. Confirms that
// are left, such as the publishing, follow within milliseconds after the commit. After an
// error the caller has to roll back. See [saga.LocalEngine].
func ExecuteIn(ctx context.Context, engine saga.LocalEngine, tx *gorm.DB, gid string, payloads ...Payload) (saga.Outcome, error) {
	return ExecuteInWith(ctx, engine, tx, gid, saga.Options{}, payloads...)
}

// ExecuteInWith is ExecuteIn with options: Labels, Timeout and ReturnDecided.
func ExecuteInWith(ctx context.Context, engine saga.LocalEngine, tx *gorm.DB, gid string, options saga.Options, payloads ...Payload) (saga.Outcome, error) {
	plan, err := planOf(ctx, engine, gid, payloads)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.ExecuteIn(ctx, tx, plan)
}

// ExecuteInSQL is [ExecuteIn] for a local transaction of package database/sql, on the pool of
// the engine's database.
func ExecuteInSQL(ctx context.Context, engine saga.LocalEngine, tx *sql.Tx, gid string, payloads ...Payload) (saga.Outcome, error) {
	return ExecuteInSQLWith(ctx, engine, tx, gid, saga.Options{}, payloads...)
}

// ExecuteInSQLWith is [ExecuteInWith] for a local transaction of package database/sql.
func ExecuteInSQLWith(ctx context.Context, engine saga.LocalEngine, tx *sql.Tx, gid string, options saga.Options, payloads ...Payload) (saga.Outcome, error) {
	plan, err := planOf(ctx, engine, gid, payloads)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.ExecuteInSQL(ctx, tx, plan)
}

// planOf checks a call of Execute and makes its plan.
func planOf(ctx context.Context, engine saga.Engine, gid string, payloads []Payload) (saga.Plan, error) {
	if err := Usable(ctx, engine); err != nil {
		return saga.Plan{}, fmt.Errorf("tcc: execute %s: %w", gid, err)
	}
	steps := make([]saga.Step, len(payloads))
	for i, payload := range payloads {
		step, err := StepOf(payload)
		if err != nil {
			return saga.Plan{}, fmt.Errorf("tcc: execute %s: payload %d: %w", gid, i+1, err)
		}
		steps[i] = step
	}
	return saga.Plan{GID: gid, Pattern: pattern, Steps: steps}, nil
}

// Usable refuses a nil context or engine, which would cause a panic later. It is for packages of
// other patterns, such as package action.
func Usable(ctx context.Context, engine saga.Engine) error {
	switch {
	case isNil(ctx):
		return fmt.Errorf("the context is nil: %w", saga.ErrInvalid)
	case isNil(engine):
		return fmt.Errorf("the engine is nil: %w", saga.ErrInvalid)
	}
	return nil
}

// StepOf returns the step of a plan that has the payload as its input.
func StepOf(payload Payload) (saga.Step, error) {
	if isNil(payload) {
		return saga.Step{}, fmt.Errorf("the payload is nil: %w", saga.ErrInvalid)
	}
	if d, ok := payload.(deciding); ok {
		step, err := StepOf(d.Payload)
		step.Decides = true
		return step, err
	}
	return saga.Step{Kind: payload.Branch(), Input: payload}, nil
}
