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
// The error is nil only if the transaction is decided to be confirmed; the
// outcome then says whether it is Confirmed already or still Confirming, which
// goes on until it succeeds. A cancelled transaction is a
// [*saga.CancelledError] that matches [saga.ErrCancelled] and carries the
// reason. If the outcome could not be learned, the error matches
// [saga.ErrUnknown].
//
// The gid, up to 128 printable ASCII characters chosen by the caller, names
// the transaction: executing the same gid with the same payloads again does
// nothing new and gives the same transaction's outcome, so it is the way to
// find out after ErrUnknown. With other payloads it matches
// [saga.ErrMismatch].
func Execute(ctx context.Context, engine saga.Engine, gid string, payloads ...Payload) (saga.Outcome, error) {
	return ExecuteWith(ctx, engine, gid, saga.Options{}, payloads...)
}

// ExecuteWith is Execute with options.
func ExecuteWith(ctx context.Context, engine saga.Engine, gid string, options saga.Options, payloads ...Payload) (saga.Outcome, error) {
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

func stepOf(payload Payload) (saga.Step, error) {
	if isNil(payload) {
		return saga.Step{}, fmt.Errorf("the payload is nil: %w", saga.ErrInvalid)
	}
	return saga.Step{Kind: payload.Branch(), Input: payload}, nil
}
