package txlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// finisher decides transactions, finishes them, and writes failed attempts.
type finisher struct{ *store }

// Decision moves a transaction out of Trying.
type Decision struct {
	GID        string
	Epoch      int64  // the epoch to decide under; 0 for any, which raises it
	State      string // Confirming or Cancelling
	Reason, By string
	Code       string        // of the reason, for programs
	BranchID   string        // the branch that failed; empty if none did
	Owner      string        // the instance that drives it from now on
	Due        time.Duration // when another instance takes it over if it is not finished, from now
	Failures   int           // failed calls that are written with the decision

	// ByBranch says that the State follows from what the branch that decides has done. A
	// transaction with such a branch cannot be decided without it. The deadline does not
	// count then.
	ByBranch bool
}

// Decide makes the decision: one compare-and-set from Trying to Confirming or Cancelling. A
// decision to confirm has no effect after the deadline. Without an effect it returns
// ErrStale.
func (l finisher) Decide(ctx context.Context, tx *gorm.DB, d Decision) error {
	query := l.sql.decideHere
	switch {
	case d.ByBranch:
		query = l.sql.decide
	case d.State == Confirming:
		query = l.sql.decideInTime
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, query, append(d.arguments(), d.GID)...)
	return l.guarded(d.GID, "deciding", result, err)
}

func (d Decision) arguments() []any {
	return []any{d.State, d.Reason, d.Code, d.BranchID, d.By, d.Owner, d.raise(), d.Failures, d.Due.Microseconds(), d.Epoch, d.Epoch}
}

// raise returns by how much the decision raises the epoch.
func (d Decision) raise() int64 {
	if d.Epoch == 0 {
		return 1
	}
	return 0
}

// Of returns the record of an undecided transaction as the decision leaves it.
func (d Decision) Of(r Record) Record {
	now := r.CreatedAt.Add(r.SinceBegin)
	r.State, r.Reason, r.Code, r.BranchID, r.DecidedBy, r.Attention = d.State, d.Reason, d.Code, d.BranchID, d.By, ""
	r.Failures += d.Failures
	r.Owner, r.Epoch, r.DecidedAt, r.DueAt = d.Owner, r.Epoch+d.raise(), now, now.Add(d.Due)
	return r
}

// DecideAll is Decide for many transactions: d, which names no gid, for each of gids. No branch
// has decided them. If one of the decisions has no effect, it returns ErrStale, and the caller
// rolls back.
func (l finisher) DecideAll(ctx context.Context, tx *gorm.DB, d Decision, gids []string) error {
	arguments := d.arguments()
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.decideAll[d.State](len(gids)), arguments...)
	return all(len(gids), "deciding", result, err)
}

// ConfirmAll is Decide for many decisions to confirm: d, which names no gid, for each of gids.
// No branch has decided them. If one has no effect, it returns ErrStale, and the caller rolls
// back.
func (l finisher) ConfirmAll(ctx context.Context, tx *gorm.DB, d Decision, gids []string) error {
	arguments := make([]any, 0, 5+len(gids))
	arguments = append(arguments, d.By, d.Owner, d.Due.Microseconds(), d.Epoch)
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.confirmAll(len(gids)), arguments...)
	return all(len(gids), "deciding", result, err)
}

// all returns ErrStale if a statement has not changed n transactions.
func all(n int, doing string, result sql.Result, err error) error {
	if err != nil {
		return fmt.Errorf("log: %s %d transactions: %w", doing, n, err)
	}
	if changed, err := result.RowsAffected(); err != nil || changed != int64(n) {
		return errors.Join(ErrStale, err)
	}
	return nil
}

// Finish moves a transaction from Confirming to Confirmed or from Cancelling to Cancelled,
// if it is still driven under the epoch. Otherwise it returns ErrStale.
func (l finisher) Finish(ctx context.Context, tx *gorm.DB, gid string, epoch int64) error {
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.finish, gid, epoch)
	return l.guarded(gid, "finishing", result, err)
}

// FinishAll is Finish for many transactions under the same epoch. If it does not move all of
// them, it returns ErrStale, and the caller rolls back.
func (l finisher) FinishAll(ctx context.Context, tx *gorm.DB, epoch int64, gids []string) error {
	arguments := make([]any, 0, 1+len(gids))
	arguments = append(arguments, epoch)
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.finishAll(len(gids)), arguments...)
	return all(len(gids), "finishing", result, err)
}

// Done marks branches that are confirmed or cancelled, while their transaction is not
// finished. It does not check the epoch: a mark only saves a call that the barrier would
// turn away.
func (l finisher) Done(ctx context.Context, tx *gorm.DB, gid string, branchIDs ...string) error {
	if len(branchIDs) == 0 {
		return nil
	}
	arguments := make([]any, 0, 1+len(branchIDs))
	arguments = append(arguments, gid)
	for _, id := range branchIDs {
		arguments = append(arguments, id)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.done(len(branchIDs)), arguments...); err != nil {
		return fmt.Errorf("log: marking branches of %s done: %w", gid, err)
	}
	return nil
}

// KeptAttempts is the number of failed attempts kept per branch and operation.
const KeptAttempts = 20

// Failure is a failed branch call.
type Failure struct {
	BranchID, Operation string
	Attempt             int // from 1
	Error, Instance     string
	Code                string        // for programs
	Next                time.Duration // when to call again, from now; negative for never
}

// Retry describes how a transaction goes on after failed attempts.
type Retry struct {
	GID       string
	Epoch     int64         // under which it is driven
	Due       time.Duration // from now
	Attention string        // empty for no change
	Release   bool          // any instance may take it over
}

// Fail writes failed attempts and the next due time, if the transaction is still driven
// under the epoch. Otherwise it returns ErrStale. If the transaction is due now, it stays so:
// an operator's retry may have come meanwhile.
func (l finisher) Fail(ctx context.Context, tx *gorm.DB, r Retry, failures []Failure) error {
	pool, gid := tx.Statement.ConnPool, r.GID
	release := 0
	if r.Release {
		release = 1
	}
	result, err := pool.ExecContext(ctx, l.sql.fail, len(failures), r.Attention, r.Attention, release, r.Due.Microseconds(), gid, r.Epoch)
	if err = l.guarded(gid, "recording failures", result, err); err != nil {
		return err
	}
	return l.Attempted(ctx, tx, gid, failures...)
}

// FailedTry is a failed call of a transaction that is not repeated.
type FailedTry struct {
	GID string
	Failure
}

// FailedTries writes failed calls, with one statement.
func (l finisher) FailedTries(ctx context.Context, tx *gorm.DB, all []FailedTry) error {
	if len(all) == 0 {
		return nil
	}
	arguments := make([]any, 0, 7*len(all))
	for _, f := range all {
		arguments = append(arguments, f.GID, f.BranchID, f.Operation, f.Attempt, f.Error, f.Code, f.Instance)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.attemptsLast(len(all)), arguments...); err != nil {
		return fmt.Errorf("log: recording %d failed calls: %w", len(all), err)
	}
	return nil
}

// Attempted writes failed attempts.
func (l finisher) Attempted(ctx context.Context, tx *gorm.DB, gid string, failures ...Failure) error {
	pool := tx.Statement.ConnPool
	for _, f := range failures {
		query, arguments := l.sql.attemptLast, []any{gid, f.BranchID, f.Operation, f.Attempt, f.Error, f.Code, f.Instance}
		if f.Next >= 0 {
			query, arguments = l.sql.attempt, append(arguments, f.Next.Microseconds())
		}
		if _, err := pool.ExecContext(ctx, query, arguments...); err != nil {
			return fmt.Errorf("log: recording an attempt of %s/%s: %w", gid, f.BranchID, err)
		}
		if f.Attempt > KeptAttempts {
			if _, err := pool.ExecContext(ctx, l.sql.deleteAttempts, gid, f.BranchID, f.Operation, f.Attempt-KeptAttempts); err != nil {
				return fmt.Errorf("log: removing old attempts of %s/%s: %w", gid, f.BranchID, err)
			}
		}
	}
	return nil
}
