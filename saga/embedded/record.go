package embedded

import (
	"context"
	"errors"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// recorder has the method for transactions whose branch that decides is tried by somebody else.
type recorder struct{ opened *opened }

// Record begins a transaction whose branch that decides is tried by somebody else, who does not
// need this engine for it. Record calls no branch, and returns when the log has the plan. The
// transaction belongs to no process.
//
// The first step of the plan is the one that decides, and all others are AfterDecision. At the
// deadline, the branch is asked whether its Try was committed, and its answer is the decision.
// [Engine.Cancel] asks it before. Until it answers, the transaction stays undecided; see "A
// branch that decides" in package saga.
//
// The deadline is the plan's Timeout from now. It defaults to [Config.OpenTimeout]. LocalWork,
// LocalWorkIn and TryAttempts are refused. A repeated Record with the same plan succeeds, whatever
// the state of the transaction. With another plan, the error matches [saga.ErrMismatch].
func (r *recorder) Record(ctx context.Context, plan saga.Plan) error {
	ctx, ended := r.opened.observe.Operation(ctx, "record", plan.GID)
	err := r.record(ctx, plan)
	ended(err)
	return txn.Wrap("record", plan.GID, err)
}

func (r *recorder) record(ctx context.Context, plan saga.Plan) error {
	o := r.opened
	if err := checkRecord(plan); err != nil {
		return txn.Invalid("%w", err)
	}
	t, err := o.builder.Prepare(plan)
	if err != nil {
		return err
	}
	timeout, err := timeoutOf(plan.Timeout, o.timeout)
	if err != nil {
		return txn.Invalid("%w", err)
	}
	ctx, leave, err := o.admission.enter(ctx, true)
	if err != nil {
		return err
	}
	start := txlog.Start{GID: t.GID, Pattern: plan.Pattern, State: txlog.Trying, Digest: t.Digest(plan.Pattern), Deadline: timeout, Due: timeout, Branches: t.Rows(),
		Labels: t.Labels, Trace: o.observe.Inject(ctx)}
	return awaitError(ctx, t.GID, func() error {
		defer leave()
		if err := o.paused.Refuse(t.Steps); err != nil {
			if record, readErr := o.reader.Locked(ctx, t.GID); readErr != nil || record.Digest != start.Digest {
				return err
			}
			return nil // a repeated one
		}
		return o.begin(ctx, start, "")
	})
}

// checkRecord returns an error if somebody else cannot try the only branch of a plan that is
// tried.
func checkRecord(plan saga.Plan) error {
	switch {
	case plan.LocalWork != nil || plan.LocalWorkIn != "" || plan.TryAttempts != 0:
		return errors.New("LocalWork, LocalWorkIn and TryAttempts are for Execute: Record tries nothing")
	case len(plan.Steps) == 0 || !plan.Steps[0].Decides:
		return errors.New("the first step has to decide: Record does not try the steps before it")
	default:
		return nil
	}
}
