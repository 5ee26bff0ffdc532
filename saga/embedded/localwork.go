package embedded

import (
	"context"
	"errors"
	"slices"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/localwork"
)

// withLocalWork makes the local work in another database the step that decides. The work is in
// the context that it returns.
func withLocalWork(ctx context.Context, plan saga.Plan) (context.Context, saga.Plan, error) {
	switch {
	case plan.LocalWork != nil && plan.TryAttempts != 0 && plan.TryAttempts != 1:
		return ctx, plan, errors.New("LocalWork and TryAttempts exclude each other: another process that continues the transaction does not have the work; make it an action")
	case plan.LocalWorkIn == "":
		return ctx, plan, nil
	case plan.LocalWork == nil:
		return ctx, plan, errors.New("there is a LocalWorkIn without LocalWork")
	}
	ctx = localwork.With(ctx, plan.GID, plan.LocalWork)
	n := slices.IndexFunc(plan.Steps, func(s saga.Step) bool { return s.AfterDecision })
	if n < 0 {
		n = len(plan.Steps)
	}
	plan.Steps = slices.Insert(slices.Clone(plan.Steps), n, saga.Step{Kind: plan.LocalWorkIn, Decides: true})
	plan.LocalWork = nil
	return ctx, plan, nil
}
