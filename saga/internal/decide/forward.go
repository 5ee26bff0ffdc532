package decide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// ErrPostponed says that a Try has failed and is called again later. The transaction is
// undecided, and recovery continues it.
var ErrPostponed = errors.New("a Try has failed, and is called again later")

// Continue runs the first phase of a transaction with forward recovery that this instance has
// claimed. Left is the time until its deadline. If a Try fails and may be called again, the
// Cause is [ErrPostponed], and Next of the transaction says when it is due.
func (d *Decider) Continue(ctx context.Context, t *txn.Txn, left time.Duration) Decision {
	e := &execution{d: d, txn: t, start: txlog.Start{GID: t.GID, Deadline: left}, mayBeCommitted: t.Deciding() != nil}
	e.notTried = e.untried()
	trying, cancel := context.WithTimeoutCause(ctx, left, txn.ErrDeadline)
	defer cancel()
	cause := e.tryForward(ctx, trying)
	e.tell(ctx)
	return Decision{Outcome: e.outcome(), Cause: cause, Taken: e.taken}
}

// decideForward begins a plan with forward recovery, and runs its first phase. The log has the
// whole plan before the first Try, so that another instance can continue.
func (e *execution) decideForward(ctx, trying context.Context) error {
	if err := e.begin(trying, nil); err != nil {
		return err
	}
	e.notTried = e.txn.Before()
	return e.tryForward(ctx, trying)
}

// untried returns the steps before the decision that are not marked as tried.
func (e *execution) untried() []*txn.Step {
	steps, _ := txn.Split(e.txn.Before(), func(s *txn.Step) bool { return !s.Tried })
	return steps
}

// tryForward tries the steps that are not tried, stage by stage, and decides. The log shows
// each stage as tried before the next one begins.
func (e *execution) tryForward(ctx, trying context.Context) error {
	untried := e.untried()
	for len(untried) > 0 {
		if e.paused {
			return e.postpone(trying, nil, e.d.MaxBackoff)
		}
		stage := untried[:stageOf(untried)]
		untried = untried[len(stage):]
		if wait := e.waitOf(trying, stage); wait > 0 {
			return e.postpone(trying, nil, wait)
		}
		e.notTried = e.notTried[len(stage):]
		failures := e.tryStage(trying, stage)
		if len(failures) == 0 {
			continue
		}
		for _, s := range stage {
			err := failures[s]
			if errors.Is(err, txlog.ErrStale) {
				return e.awaitTaken(ctx)
			}
			if err != nil && !e.mayTryAgain(trying, s, err) {
				return e.cancel(ctx, s, txn.CauseOf(trying, err))
			}
		}
		return e.postpone(trying, failures, 0)
	}
	e.notTried = nil
	if deciding := e.txn.Deciding(); deciding != nil {
		return e.decideByBranch(ctx, trying, deciding)
	}
	return e.decideInLog(ctx, trying, nil)
}

// tryStage tries the steps of a stage, and marks those that succeed as tried.
func (e *execution) tryStage(ctx context.Context, stage []*txn.Step) map[*txn.Step]error {
	failures := make(map[*txn.Step]error)
	inLog, others := txn.Split(stage, func(s *txn.Step) bool { return s.Branch.TriesInLog() })
	for _, s := range inLog {
		failures[s] = e.tryMarked(ctx, s)
	}
	if len(others) > 0 {
		for i, err := range e.tryEach(ctx, others) {
			failures[others[i]] = err
		}
	}
	maps.DeleteFunc(failures, func(s *txn.Step, err error) bool {
		s.Tried = err == nil
		return s.Tried
	})
	if len(failures) > 0 || len(others) == 0 {
		return failures
	}
	write := commit.Write{GID: e.txn.GID, More: func(ctx context.Context, tx *gorm.DB) error { return e.markTried(ctx, tx, stage) }}
	if err := e.d.Commits.Write(ctx, write); err != nil {
		failures[stage[0]] = err
	}
	return failures
}

// tryMarked tries a resident step, and marks it as tried in the same local transaction.
func (e *execution) tryMarked(ctx context.Context, s *txn.Step) error {
	var err error
	for range txn.MaxRuns {
		err = e.d.Shared.Alone().Run(ctx, func(tx *gorm.DB) error {
			if tryErr := e.d.TryAll(ctx, tx, e.txn, []*txn.Step{s}); tryErr != nil {
				return tryErr
			}
			var markErr error
			e.paused, markErr = e.d.Log.TriedStage(ctx, tx, e.txn.GID, e.txn.Epoch, s.ID)
			return markErr
		})
		if !errors.Is(err, local.ErrCommitUnknown) {
			break // else the barrier turns the next call away if the Try was committed
		}
	}
	var failed *txn.BranchError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// markTried writes which steps are tried, and their results. A driver that is stale goes no
// further.
func (e *execution) markTried(ctx context.Context, tx *gorm.DB, stage []*txn.Step) (err error) {
	var ids []string
	for _, s := range stage {
		if s.Tried {
			ids = append(ids, s.ID)
		}
	}
	if err = e.putResults(ctx, tx); err != nil {
		return err
	}
	e.paused, err = e.d.Log.TriedStage(ctx, tx, e.txn.GID, e.txn.Epoch, ids...)
	return err
}

// waitOf returns how long the Trys of a stage have to wait: for their next attempts, for a
// service that is down, or for a kind that an operator has paused.
func (e *execution) waitOf(ctx context.Context, stage []*txn.Step) (longest time.Duration) {
	for _, s := range stage {
		wait := s.Wait
		switch {
		case e.d.Paused.Has(s.Kind):
			wait = jitter.UpTo(ctx, e.d.MaxBackoff)
		case s.Failed > 0 && wait <= 0 && s.Branch.Breaker != nil:
			wait = s.Branch.Breaker.Delay(ctx, e.d.MaxBackoff, false)
		}
		longest = max(longest, wait)
	}
	return longest
}

// mayTryAgain reports whether a failed Try is called again.
func (e *execution) mayTryAgain(trying context.Context, s *txn.Step, err error) bool {
	var rejection *saga.Rejection
	var notYet *call.NotYetError
	switch {
	case errors.Is(context.Cause(trying), txn.ErrDeadline):
		return false
	case trying.Err() != nil:
		return true // the engine stops, and another instance continues
	case errors.As(err, &rejection), errors.Is(err, barrier.ErrSuspended), errors.Is(err, barrier.ErrConflict):
		return false
	case s.Branch.Effect(barrier.Try) != nil && !s.Branch.Action:
		return false // the Try of such a branch is called at most once
	case errors.As(err, &notYet):
		return true
	default:
		return e.txn.TryAttempts == saga.Unlimited || s.Failed+1 < e.txn.TryAttempts
	}
}

// postpone writes which steps are tried, the failed Trys, and when the transaction is due
// again: after wait, or for the next attempt of a failed Try.
func (e *execution) postpone(ctx context.Context, failed map[*txn.Step]error, wait time.Duration) error {
	d, t := e.d, e.txn
	if ctx.Err() != nil {
		return context.Cause(ctx) // the engine stops; another instance continues
	}
	next := wait
	var failures []txlog.Failure
	for _, s := range t.Steps {
		err := failed[s]
		var notYet *call.NotYetError
		switch {
		case err == nil:
			continue
		case errors.As(err, &notYet):
			next = max(next, notYet.Wait)
			continue
		}
		s.Failed++
		pause := txn.PauseAfter(ctx, err, d.MinBackoff, d.MaxBackoff, s.Failed)
		next = max(next, pause)
		failures = append(failures, txlog.Failure{BranchID: s.ID, Operation: string(barrier.Try), Attempt: s.Failed,
			Error: reason.ClipError(err.Error()), Instance: d.Instance, Next: pause})
		if s.Branch.Breaker != nil {
			s.Branch.Breaker.Failure(t.GID)
		}
		d.Logger.Warn("saga: a Try failed and will be repeated", slog.String("gid", t.GID), slog.String("branch", s.ID), slog.String("kind", s.Kind),
			slog.String("operation", string(barrier.Try)), slog.Int("attempt", s.Failed), slog.Duration("next", pause), slog.Any("error", err))
	}
	next = min(next, e.left(ctx))
	err := d.Commits.Write(ctx, commit.Write{GID: e.txn.GID, More: func(ctx context.Context, tx *gorm.DB) error {
		if err := e.markTried(ctx, tx, t.Steps); err != nil {
			return err
		}
		return d.Log.Fail(ctx, tx, txlog.Retry{GID: t.GID, Epoch: t.Epoch, Due: next}, failures)
	}})
	switch {
	case errors.Is(err, txlog.ErrStale):
		return e.awaitTaken(ctx)
	case err != nil:
		return fmt.Errorf("recording a failed Try: %w", err)
	}
	t.Next = max(next, time.Millisecond)
	return ErrPostponed
}

// left returns the time until the deadline.
func (e *execution) left(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(0, time.Until(deadline))
}
