package decide

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// execution is the first phase of one plan.
type execution struct {
	d      *Decider
	txn    *txn.Txn
	start  txlog.Start
	work   LocalWork
	reason reason.Reason // why it is cancelled
	taken  bool          // another instance has taken the transaction over

	notTried []*txn.Step // their Trys were not called, or were rolled back: they need no Cancel
}

// outcome returns what is known of the transaction.
func (e *execution) outcome() saga.Outcome {
	return saga.Outcome{GID: e.txn.GID, State: e.txn.State, Reason: e.reason.Text, Code: e.reason.Code, BranchID: e.reason.BranchID}
}

// adopt sets the state and the reason from the log.
func (e *execution) adopt(r txlog.Record) {
	e.txn.State, e.reason = saga.State(r.State), reason.Reason{Text: r.Reason, Code: r.Code, BranchID: r.BranchID}
}

// decide runs the first phase. Afterwards the state is decided, or the error says why it is
// not. After a decision to cancel, the error is the cause.
func (e *execution) decide(ctx context.Context) error {
	// The time begins here before it begins in the database.
	trying, cancel := context.WithTimeoutCause(ctx, e.start.Deadline, txn.ErrDeadline)
	defer cancel()
	groups := groupsOf(e.txn.Steps)
	if len(groups) == 1 && groups[0].inLog {
		if e.work != nil {
			return e.decideAlone(trying)
		}
		return e.decideInBatch(trying)
	}
	return e.decideInSteps(ctx, trying, groups)
}

// decideInSteps decides a plan that has a branch outside the log's database. The first
// resident Trys are in the commit that begins the transaction, the last ones in the commit
// with the decision. The context trying ends at the deadline.
func (e *execution) decideInSteps(ctx, trying context.Context, groups []stepGroup) error {
	var first, last []*txn.Step
	if groups[0].inLog {
		first, groups = groups[0].steps, groups[1:]
	}
	if err := e.begin(trying, first); err != nil {
		return err
	}
	if n := len(groups) - 1; groups[n].inLog {
		last, groups = groups[n].steps, groups[:n]
	}
	e.notTried = e.txn.Steps[len(first):]
	for _, group := range groups {
		if s, err := e.tryGroup(trying, group); err != nil {
			return e.cancel(ctx, s, txn.CauseOf(trying, err))
		}
	}
	e.notTried = nil
	err := e.confirm(trying, last)
	if err == nil || e.txn.State.Decided() {
		return err
	}
	var failed *txn.BranchError
	var workFailed *call.WorkError
	switch {
	case errors.As(err, &failed):
		e.notTried = last
		return e.cancel(ctx, last[failed.Index], txn.CauseOf(trying, failed.Err))
	case errors.As(err, &workFailed):
		e.notTried = last
	}
	return e.cancel(ctx, nil, txn.CauseOf(trying, err))
}

// stepGroup holds steps that follow each other in a plan and are tried the same way.
type stepGroup struct {
	steps []*txn.Step
	inLog bool // in a local transaction with the log
}

// groupsOf splits the steps of a plan where the way of their Trys changes.
func groupsOf(steps []*txn.Step) (all []stepGroup) {
	for _, s := range steps {
		inLog := s.Branch.TriesInLog()
		if n := len(all); n == 0 || all[n-1].inLog != inLog {
			all = append(all, stepGroup{inLog: inLog})
		}
		group := &all[len(all)-1]
		group.steps = append(group.steps, s)
	}
	return all
}

// tryGroup tries steps before the decision. It returns the step that failed.
func (e *execution) tryGroup(ctx context.Context, group stepGroup) (*txn.Step, error) {
	if group.inLog {
		return e.tryInLog(ctx, group.steps)
	}
	for _, s := range group.steps {
		e.notTried = e.notTried[1:]
		if err := e.d.Calls.CallAlone(ctx, s.Branch, e.txn.Call(s, barrier.Try)); err != nil {
			return s, err
		}
	}
	return nil, nil
}

// tryInLog tries steps in one local transaction. If one fails, all are rolled back.
func (e *execution) tryInLog(ctx context.Context, steps []*txn.Step) (*txn.Step, error) {
	for run := 1; ; run++ {
		err := local.Run(ctx, e.d.DB, func(tx *gorm.DB) error { return e.d.TryAll(ctx, tx, e.txn, steps) })
		if errors.Is(err, local.ErrCommitUnknown) && run < txn.MaxRuns {
			continue // if the Trys were committed, the barrier turns them away
		}
		var failed *txn.BranchError
		if errors.As(err, &failed) {
			return steps[failed.Index], failed.Err
		}
		e.notTried = e.notTried[len(steps):]
		return nil, err
	}
}
