package call

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// applyExternal makes the effect of an external branch after the decision. The barrier row
// says tried until the effect has succeeded once. The effect may be made more than once, with
// the same idempotency key.
func (c *Caller) applyExternal(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	begin := call
	begin.Op, begin.Result = barrier.Try, nil
	nothing := func(*gorm.DB) error { return nil }
	verdict, err := c.withBarrier(ctx, b, begin, nothing)
	if err != nil {
		return verdict, err
	}
	end := call
	end.Op = barrier.Confirm
	if verdict == barrier.Duplicate {
		row, lookErr := c.ReadLocked(ctx, b, call)
		if lookErr != nil {
			return verdict, lookErr
		}
		if row != nil && row.State == barrier.StateConfirmed {
			return c.withBarrier(ctx, b, end, nothing) // a duplicate, which has the result
		}
	}
	if _, err = c.CallEffect(ctx, b, call, nil); err != nil {
		return verdict, err
	}
	return c.withBarrier(ctx, b, end, nothing)
}
