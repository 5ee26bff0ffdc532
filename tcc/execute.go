package tcc

import (
	"context"
	"fmt"

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
	if err := usable(ctx, engine); err != nil {
		return saga.Outcome{}, fmt.Errorf("tcc: execute %s: %w", gid, err)
	}
	steps := make([]saga.Step, len(payloads))
	for i, payload := range payloads {
		step, err := stepOf(payload)
		if err != nil {
			return saga.Outcome{}, fmt.Errorf("tcc: execute %s: payload %d: %w", gid, i+1, err)
		}
		steps[i] = step
	}
	return engine.Execute(ctx, saga.Plan{GID: gid, Pattern: pattern, Steps: steps, Options: options})
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
