package tcc

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// pattern is what the log calls transactions of this package.
const pattern = "tcc"

// Execute runs a transaction whose branches are all known: it tries every
// branch, decides, and confirms all, or cancels all if a Try failed.
//
// No error means that the transaction is decided to be confirmed, not that it is
// confirmed: the engine then calls each Confirm until it succeeds. Ask the outcome:
//
//	outcome, err := tcc.Execute(ctx, engine, gid, payloads...)
//	switch {
//	case errors.Is(err, saga.ErrCancelled): // no: nothing is left reserved in the end
//	case errors.Is(err, saga.ErrUnknown):   // ask again with the same gid
//	case err != nil:                        // not begun: the error says why
//	case outcome.Finished():                // every branch is confirmed
//	default:                                // certain, and not finished yet: saga.Confirming
//	}
//
// A caller may promise the result in the last two cases. It must not read what a
// Confirm writes, or call the work done, in the last one.
//
// The error of a cancelled transaction is a [*saga.CancelledError] with the reason.
// If a branch said no with [RejectCode], the error wraps a [*saga.Rejection] with
// the code.
//
// The gid, up to 128 printable ASCII characters without spaces and slashes, names
// the transaction: executing the same gid with the same payloads again does
// nothing new and gives the same transaction's outcome. With other payloads, or
// with the same ones under another kind, the error matches [saga.ErrMismatch].
func Execute(ctx context.Context, engine saga.Engine, gid string, payloads ...Payload) (saga.Outcome, error) {
	return ExecuteWith(ctx, engine, gid, saga.Options{}, payloads...)
}

// ExecuteWith is Execute with options.
func ExecuteWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options, payloads ...Payload) (saga.Outcome, error) {
	plan, err := planOf(ctx, engine, gid, payloads)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.Execute(ctx, plan)
}

// ExecuteIn is [Execute] in a local transaction of the caller on the engine's database, such
// as the tx of db.Transaction: if and only if the caller commits, the transaction is
// decided to be confirmed. It is the way to write a row of one's own and to publish a
// message, both or neither:
//
//	err := db.Transaction(func(tx *gorm.DB) error {
//		if err := tx.Create(&order).Error; err != nil {
//			return err
//		}
//		_, err := tcc.ExecuteIn(ctx, engine, tx, "order-1001", message.Publish{...})
//		return err
//	})
//
// Every Try runs in tx, so each branch has to live in the engine's own database. What is
// left to confirm, such as the publishing, follows within milliseconds after the commit. After an error
// the caller has to roll back. A gid that was executed with the same payloads does nothing
// new; see [saga.LocalEngine].
func ExecuteIn(ctx context.Context, engine saga.LocalEngine, tx *gorm.DB, gid string, payloads ...Payload) (saga.Outcome, error) {
	plan, err := planOf(ctx, engine, gid, payloads)
	if err != nil {
		return saga.Outcome{}, err
	}
	return engine.ExecuteIn(ctx, tx, plan)
}

// ExecuteInSQL is [ExecuteIn] for a local transaction of package database/sql, on the pool of
// the engine's database.
func ExecuteInSQL(ctx context.Context, engine saga.LocalEngine, tx *sql.Tx, gid string, payloads ...Payload) (saga.Outcome, error) {
	plan, err := planOf(ctx, engine, gid, payloads)
	if err != nil {
		return saga.Outcome{}, err
	}
	return engine.ExecuteInSQL(ctx, tx, plan)
}

// planOf checks a call of Execute and makes its plan.
func planOf(ctx context.Context, engine saga.Engine, gid string, payloads []Payload) (saga.Plan, error) {
	if err := usable(ctx, engine); err != nil {
		return saga.Plan{}, fmt.Errorf("tcc: execute %s: %w", gid, err)
	}
	steps := make([]saga.Step, len(payloads))
	for i, payload := range payloads {
		step, err := stepOf(payload)
		if err != nil {
			return saga.Plan{}, fmt.Errorf("tcc: execute %s: payload %d: %w", gid, i+1, err)
		}
		steps[i] = step
	}
	return saga.Plan{GID: gid, Pattern: pattern, Steps: steps}, nil
}

// usable refuses what would only panic later.
func usable(ctx context.Context, engine saga.Engine) error {
	switch {
	case isNil(ctx):
		return fmt.Errorf("the context is nil: %w", saga.ErrInvalid)
	case isNil(engine):
		return fmt.Errorf("the engine is nil: %w", saga.ErrInvalid)
	}
	return nil
}

func stepOf(payload Payload) (saga.Step, error) {
	if isNil(payload) {
		return saga.Step{}, fmt.Errorf("the payload is nil: %w", saga.ErrInvalid)
	}
	return saga.Step{Kind: payload.Branch(), Input: payload}, nil
}
