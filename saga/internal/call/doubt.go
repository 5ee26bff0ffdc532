package call

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/inputs"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// A branch is in doubt from its Try until its Confirm or Cancel. With AskAfter, the database
// keeps the input of a branch in doubt. So a participant that asks for the outcome can make
// the Confirm or Cancel by itself.

// asks reports whether the branch of a call asks for its outcome. The caller has to have a
// name, because only the engine with this name can answer.
func (c *Caller) asks(call saga.Call) bool {
	return c.askAfter > 0 && call.Caller != "" && call.Caller != barrier.NoCaller
}

// noteDoubt writes the input of a Try that runs, and removes it with the Confirm or Cancel,
// in the local transaction that has written the barrier row.
func (c *Caller) noteDoubt(ctx context.Context, tx *gorm.DB, call saga.Call, verdict barrier.Verdict) error {
	switch call.Op {
	case barrier.Try:
		if verdict == barrier.Run {
			return c.keepInput(ctx, tx, call)
		}
	case barrier.Confirm, barrier.Cancel:
		if c.asks(call) && (verdict == barrier.Run || verdict == barrier.Duplicate) {
			return inputs.Remove(ctx, tx, call.Key())
		}
	}
	return nil
}

// keepInput writes the input of a branch that is in doubt: its Try runs, or its Cancel has
// to be called once more.
func (c *Caller) keepInput(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	if !c.asks(call) {
		return nil
	}
	err := inputs.Keep(ctx, tx, call.Key(), call.Payload, c.askAfter)
	if errors.Is(err, inputs.ErrNotText) {
		return txn.Invalid("%w", err)
	}
	return err
}
