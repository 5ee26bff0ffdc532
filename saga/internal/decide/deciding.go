package decide

import (
	"context"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// decideByBranch tries the step whose COMMIT is the decision, and records that decision.
func (e *execution) decideByBranch(ctx, trying context.Context, s *txn.Step) error {
	if err := e.d.Calls.CallAlone(trying, s.Branch, e.txn.Call(s, barrier.Try)); err != nil {
		return e.cancel(ctx, s, txn.CauseOf(trying, err))
	}
	return e.decideInLog(ctx, trying, nil)
}
