package drive

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// conclude writes the result of the round: the end, or the failures.
func (r *round) conclude(ctx context.Context) error {
	d, t := r.d, r.txn
	due, waiting := r.pending()
	if len(t.Steps) == 0 && t.Planned {
		return errors.New("the log has no branches of a transaction that was begun with some, so it cannot be finished")
	}
	if len(due)+len(waiting) == 0 {
		end := commit.Write{GID: t.GID, Results: r.results(), Finish: t.Epoch}
		if r.ended != nil && len(end.Results) == 0 { // else the caller may read them in the log
			r.ended(r.end)
			end.Patient = true
		}
		err := d.Commits.Write(ctx, end)
		r.finished = err == nil
		return err
	}
	failures, next := r.recordFailures(ctx, due)
	if len(failures) == 0 && len(waiting) == 0 && len(r.results()) == 0 {
		return nil // it is due again when the lease ends
	}
	for _, s := range waiting {
		next = min(next, s.Wait)
	}
	return r.writeRetry(ctx, failures, next, slices.Concat(due, waiting))
}

// recordFailures counts and logs the failed calls of the round. It returns them as the log
// keeps them, and when the first of them is due again.
func (r *round) recordFailures(ctx context.Context, due []*txn.Step) (failures []txlog.Failure, next time.Duration) {
	next = r.d.MaxBackoff
	for _, s := range due {
		cause := r.failures[s]
		if cause == nil {
			continue // the commit that it shared failed because of the log
		}
		s.Failed++
		pause := txn.PauseAfter(ctx, cause, r.d.MinBackoff, r.d.MaxBackoff, s.Failed)
		next = min(next, pause)
		code := ""
		if errors.Is(cause, barrier.ErrConflict) {
			code = saga.CodeConflict
		}
		failures = append(failures, txlog.Failure{BranchID: s.ID, Operation: string(r.txn.Op(s)), Attempt: s.Failed,
			Error: reason.ClipError(cause.Error()), Code: code, Instance: r.d.Instance, Next: pause})
		r.d.Logger.Warn("saga: a branch call failed and will be repeated", slog.String("gid", r.txn.GID),
			slog.String("branch", s.ID), slog.String("kind", s.Kind), slog.String("operation", string(r.txn.Op(s))),
			slog.Int("attempt", s.Failed), slog.Duration("next", pause), slog.Any("error", cause))
	}
	return failures, next
}

// writeRetry writes the done branches, the failures, and when the transaction is due again
// because of the pending branches.
func (r *round) writeRetry(ctx context.Context, failures []txlog.Failure, next time.Duration, pending []*txn.Step) error {
	d, t := r.d, r.txn
	unmarked, why := r.unmarked(), attention{r}.why()
	err := d.Commits.Write(ctx, commit.Write{GID: t.GID, Results: r.results(), More: func(ctx context.Context, tx *gorm.DB) error {
		if err := d.Log.Done(ctx, tx, t.GID, unmarked...); err != nil {
			return err
		}
		return d.Log.Fail(ctx, tx, txlog.Retry{GID: t.GID, Epoch: t.Epoch, Due: next, Attention: why, Release: r.release}, failures)
	}})
	if err != nil {
		return err
	}
	t.Next = next
	for _, s := range pending {
		if s.Branch != nil && !d.Paused.Has(s.Kind) {
			s.Branch.Breaker.Postpone(t.GID)
		}
	}
	if why != "" {
		t.Attention = why
		d.Alarm(t)
	}
	return nil
}

// results returns the results of the calls of this round that were not made in the log's
// transaction.
func (r *round) results() []result.Result {
	steps, _ := txn.Split(r.txn.Steps, func(s *txn.Step) bool {
		marked, done := r.marked[s]
		return done && !marked && s.Role == txlog.RoleAfter
	})
	return r.txn.Results(steps)
}

// unmarked returns the branches that this round has ended and that the log does not show
// as done yet.
func (r *round) unmarked() (ids []string) {
	for _, s := range r.txn.Steps {
		if marked, done := r.marked[s]; done && !marked {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
