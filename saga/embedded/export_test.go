package embedded

import (
	"context"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// GatherDecisions lets executions of plans like p wait until n of them are there, and
// then go in one batch, also after a stall, as a busy machine has them.
func (e *Engine) GatherDecisions(p saga.Plan, n int) {
	steps := e.stepsOf(p)
	for _, s := range steps {
		s.Branch.Backoff.End()
	}
	key, _ := e.shared.Key(steps)
	e.decider.Gather(key, n)
}

// GatherFinishes does it with the last commits of plans like p.
func (e *Engine) GatherFinishes(p saga.Plan, n int) {
	rest, _ := txn.Split(e.stepsOf(p), func(s *txn.Step) bool { return !s.Branch.ConfirmsInLog() })
	key, _ := e.shared.Key(rest)
	e.driver.GatherFinishes(key, n)
}

// GatherEffects does it with the effects of Confirms of a kind.
func (e *Engine) GatherEffects(kind string, n int) { e.driver.GatherEffects(kind, n) }

// CleanGIDs removes what is old of some transactions, as cleaning does.
func (e *Engine) CleanGIDs(ctx context.Context, gids ...string) error {
	return e.cleaner.Remove(ctx, gids)
}

// Shares reports whether executions of plans like p share commits now.
func (e *Engine) Shares(p saga.Plan) bool {
	_, shared := e.shared.Key(e.stepsOf(p))
	return shared
}

// SharesAtAll reports whether executions of plans like p can share their first commit.
func (e *Engine) SharesAtAll(p saga.Plan) bool {
	for _, s := range e.stepsOf(p) {
		if !s.Branch.TriesInLog() {
			return false
		}
	}
	return e.Shares(p)
}

// WaitingDecisions returns how many executions of plans like p wait for a batch.
func (e *Engine) WaitingDecisions(p saga.Plan) int {
	key, _ := e.shared.Key(e.stepsOf(p))
	return e.decider.Waiting(key)
}

func (e *Engine) stepsOf(p saga.Plan) []*txn.Step {
	t, err := e.planned.builder.Prepare(p)
	if err != nil {
		panic(err)
	}
	return t.Steps
}

// CleanBulks removes old bulk actions, as cleaning does.
func (e *Engine) CleanBulks(ctx context.Context) error {
	return e.log.RemoveBulks(ctx, 24*time.Hour, e.config.Retention)
}

// GatherTries does it with the Trys that add a branch with this id to open transactions.
func (e *Engine) GatherTries(kind, branchID string, n int) {
	e.tries.Gather(saga.Call{Kind: kind, Op: barrier.Try, BranchID: branchID, Caller: e.planned.builder.Caller}, n)
}

// GatherWrites does it with what transactions write into the log.
func (e *Engine) GatherWrites(n int) { e.commits.Gather(n) }
