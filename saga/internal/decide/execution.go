package decide

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/result"
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
	made   bool          // this execution has made the decision

	unanswered bool // a shared COMMIT was not answered: the log may have the row of this execution

	newResults []*txn.Step // their results are not in the log yet
	notTried   []*txn.Step // their Trys were not called, or were rolled back: they need no Cancel

	paused         bool // an operator has paused it; read with each stage that is marked as tried
	mayBeCommitted bool // the branch that decides, by this execution or by an earlier one
}

// outcome returns what is known of the transaction.
func (e *execution) outcome() saga.Outcome {
	return saga.Outcome{GID: e.txn.GID, State: e.txn.State, Reason: e.reason.Text, Code: e.reason.Code, BranchID: e.reason.BranchID}
}

// adopt sets the state and the reason from the log.
func (e *execution) adopt(r txlog.Record) {
	e.txn.Decide(saga.State(r.State))
	e.reason = reason.Reason{Text: r.Reason, Code: r.Code, BranchID: r.BranchID}
}

// decide runs the first phase. Afterwards the state is decided, or the error says why it is
// not. After a decision to cancel, the error is the cause.
func (e *execution) decide(ctx context.Context) error {
	// The time begins here before it begins in the database.
	trying, cancel := context.WithTimeoutCause(ctx, e.start.Deadline, txn.ErrDeadline)
	defer cancel()
	groups := groupsOf(tryOrder(e.txn.Before()))
	switch oneCommit := len(groups) == 0 || len(groups) == 1 && groups[0].inLog; {
	case e.txn.TryAttempts != 0:
		return e.decideForward(ctx, trying)
	case !oneCommit || e.txn.HasRole(txlog.RoleDecides):
		return e.decideInSteps(ctx, trying, groups)
	case e.work != nil || e.txn.HasRole(txlog.RoleAfter):
		return e.decideAlone(trying)
	default:
		return e.decideInBatch(trying)
	}
}

// decideInSteps decides a plan that has a branch outside the log's database. The first
// resident Trys are in the commit that begins the transaction, the last ones in the commit
// with the decision. The context trying ends at the deadline.
func (e *execution) decideInSteps(ctx, trying context.Context, groups []stepGroup) error {
	var first, last []*txn.Step
	if len(groups) > 0 && groups[0].inLog {
		first, groups = groups[0].steps, groups[1:]
	}
	if err := e.begin(trying, first); err != nil {
		return err
	}
	e.notTried = nil
	for _, group := range groups {
		e.notTried = append(e.notTried, group.steps...)
	}
	deciding := e.txn.Deciding()
	if n := len(groups) - 1; n >= 0 && groups[n].inLog && deciding == nil {
		last, groups = groups[n].steps, groups[:n]
	}
	for _, group := range groups {
		if s, err := e.tryGroup(trying, group); err != nil {
			return e.cancel(ctx, s, txn.CauseOf(trying, err))
		}
	}
	e.notTried = nil
	if deciding != nil {
		return e.decideByBranch(ctx, trying, deciding)
	}
	return e.decideInLog(ctx, trying, last)
}

// decideInLog tries the last resident steps and decides, in one local transaction of the log.
func (e *execution) decideInLog(ctx, trying context.Context, last []*txn.Step) error {
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

// tryOrder returns steps in the order of their Trys. In a parallel group, those in the engine's
// own database come first, and in the last group they come last: so they share the commit
// that begins or decides.
func tryOrder(steps []*txn.Step) (ordered []*txn.Step) {
	if len(steps) == 0 || steps[0].Stage == 0 {
		return steps
	}
	for rest := steps; len(rest) > 0; {
		n := stageOf(rest)
		inLog, others := txn.Split(rest[:n], func(s *txn.Step) bool { return s.Branch.TriesInLog() })
		if rest = rest[n:]; len(rest) == 0 {
			inLog, others = others, inLog
		}
		ordered = append(append(ordered, inLog...), others...)
	}
	return ordered
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

// tryGroup tries steps before the decision, stage by stage. It returns the step that failed.
func (e *execution) tryGroup(ctx context.Context, group stepGroup) (*txn.Step, error) {
	if group.inLog {
		return e.tryInLog(ctx, group.steps)
	}
	for rest := group.steps; len(rest) > 0; {
		n := stageOf(rest)
		if err := e.storeResults(ctx); err != nil {
			return nil, err
		}
		e.notTried = e.notTried[n:]
		if s, err := e.tryInParallel(ctx, rest[:n]); err != nil {
			return s, err
		}
		rest = rest[n:]
	}
	return nil, nil
}

// stageOf returns how many of the first steps are in one stage.
func stageOf(steps []*txn.Step) int {
	n := 1
	for steps[0].Stage != 0 && n < len(steps) && steps[n].Stage == steps[0].Stage {
		n++
	}
	return n
}

// tryInParallel tries steps at the same time. It waits for all, and returns the first one that
// failed.
func (e *execution) tryInParallel(ctx context.Context, steps []*txn.Step) (*txn.Step, error) {
	failures := e.tryEach(ctx, steps)
	for i, s := range steps {
		if failures[i] != nil {
			return s, failures[i]
		}
	}
	return nil, nil
}

// tryEach tries steps at the same time, and returns their failures.
func (e *execution) tryEach(ctx context.Context, steps []*txn.Step) []error {
	failures := make([]error, len(steps))
	calls := make([]saga.Call, len(steps)) // made here: they read the results of other steps
	for i, s := range steps {
		calls[i] = e.txn.Call(s, barrier.Try)
		if s.Branch.Action {
			calls[i].Result = new(json.RawMessage)
		}
	}
	var running sync.WaitGroup
	try := func(i int) { failures[i] = e.d.Calls.Call(ctx, steps[i].Branch, calls[i]) }
	for i := range steps[1:] {
		running.Go(func() { try(i + 1) })
	}
	try(0)
	running.Wait()
	for i, s := range steps {
		if r := calls[i].Result; failures[i] == nil && r != nil && *r != nil {
			s.Result = *r
			e.newResults = append(e.newResults, s)
		}
	}
	return failures
}

// storeResults stores the results of Trys outside the log's database, before a further call
// gets them: its Cancel has to get the same.
func (e *execution) storeResults(ctx context.Context) error {
	if len(e.newResults) == 0 {
		return nil
	}
	err := e.d.Commits.Write(ctx, commit.Write{GID: e.txn.GID, Results: e.txn.Results(e.newResults)})
	if err == nil {
		e.newResults = nil
	}
	return err
}

func (e *execution) putResults(ctx context.Context, tx *gorm.DB) error {
	return result.Put(ctx, tx, e.txn.Results(e.newResults)...)
}

// tryInLog tries steps in one local transaction. If one fails, all are rolled back.
func (e *execution) tryInLog(ctx context.Context, steps []*txn.Step) (*txn.Step, error) {
	for run := 1; ; run++ {
		err := e.d.Shared.Alone().Run(ctx, func(tx *gorm.DB) error {
			if err := e.putResults(ctx, tx); err != nil {
				return err
			}
			return e.d.TryAll(ctx, tx, e.txn, steps)
		})
		if errors.Is(err, local.ErrCommitUnknown) && run < txn.MaxRuns {
			continue // if the Trys were committed, the barrier turns them away
		}
		var failed *txn.BranchError
		if errors.As(err, &failed) {
			return steps[failed.Index], failed.Err
		}
		if err == nil {
			e.newResults = nil
		}
		e.notTried = e.notTried[len(steps):]
		return nil, err
	}
}
