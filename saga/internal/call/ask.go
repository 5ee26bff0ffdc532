package call

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Ask asks the branch that decides a transaction whether its Try was committed. If it was not,
// it never will be. After an error the answer is not known.
func (c *Caller) Ask(ctx context.Context, b *txn.Branch, call saga.Call) (committed bool, err error) {
	call.Op = barrier.Ask
	err = c.Call(ctx, b, call)
	if errors.Is(err, saga.ErrNotCommitted) {
		return false, nil
	}
	return err == nil, err
}

// ask asks the barrier of a branch. The answer counts when the COMMIT of the barrier row is
// answered.
func (c *Caller) ask(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	verdict, err := c.withBarrier(ctx, b, call, func(*gorm.DB) error { return nil })
	if err == nil && verdict != barrier.Duplicate {
		return verdict, saga.ErrNotCommitted
	}
	return verdict, err
}
