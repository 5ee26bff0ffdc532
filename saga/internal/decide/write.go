package decide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// batchRun is one run of the local transaction of a decide batch. If it fails, nothing
// of it is kept outside.
type batchRun struct {
	d       *Decider
	tx      *gorm.DB
	watch   *call.Watch
	batch   []*item
	refused map[*item]*txn.BranchError
}

// write writes the log and the barrier as if every member succeeds, then makes every
// Try, then the Confirms. The Trys take the hot locks, so they come late: another batch
// that needs the same locks writes its log rows meanwhile.
func (r *batchRun) write(ctx context.Context) error {
	if err := r.logConfirmed(ctx); err != nil {
		return err
	}
	going, err := r.try(ctx)
	if err != nil {
		return err
	}
	for position, s := range r.batch[0].e.txn.Steps {
		if !s.Branch.ConfirmsInLog() {
			continue
		}
		// The Trys decide. A member whose Confirm fails is confirmed later.
		failures, err := r.call(ctx, going, position, barrier.Confirm)
		if err != nil {
			return err
		}
		if failures != nil {
			return failureOf(barrier.Confirm, going, failures)
		}
	}
	for _, m := range going {
		if local.Expired(m.ctx) != nil {
			return errGone
		}
	}
	return nil
}

// try makes every Try, and returns those whose Trys have all succeeded.
func (r *batchRun) try(ctx context.Context) (going []*item, err error) {
	if r.oneByOne() {
		return r.tryOneByOne(ctx)
	}
	undoes := r.undoes()
	if undoes {
		if err := r.exec(ctx, r.savepoint(0)); err != nil {
			return nil, err
		}
	}
	going = r.batch
	for position := range r.batch[0].e.txn.Steps {
		failures, err := r.call(ctx, going, position, barrier.Try)
		switch {
		case err != nil:
			return nil, err
		case failures == nil:
		case position == 0:
			if going, err = r.recordCancelled(ctx, going, failures); err != nil {
				return nil, err
			}
		case undoes && len(going) == len(r.batch) && allRejected(failures):
			return r.tryRest(ctx, failures)
		default:
			// The effects of their other branches have to be undone.
			return nil, failureOf(barrier.Try, going, failures)
		}
	}
	return going, nil
}

// tryRest undoes all Trys and makes those of the members that were not rejected. If one
// of them fails now, the other rejections may depend on it, so the run fails.
func (r *batchRun) tryRest(ctx context.Context, failures []error) (going []*item, err error) {
	if err := r.exec(ctx, "ROLLBACK TO SAVEPOINT tccsaga_member"); err != nil {
		return nil, err
	}
	for i, m := range r.batch {
		if failures[i] == nil {
			going = append(going, m)
		}
	}
	for position := range r.batch[0].e.txn.Steps {
		failures, err := r.call(ctx, going, position, barrier.Try)
		if err != nil {
			return nil, err
		}
		if failures != nil {
			return nil, failureOf(barrier.Try, going, failures)
		}
	}
	return r.recordCancelled(ctx, r.batch, failures)
}

// allRejected says whether every failure is a clear no of a branch.
func allRejected(failures []error) bool {
	for _, err := range failures {
		var rejection *saga.Rejection
		if err != nil && !errors.As(err, &rejection) {
			return false
		}
	}
	return true
}

// oneByOne reports whether the members are tried one after the other, each after a
// savepoint. So it is if a branch without WorkBatch has rejected recently.
func (r *batchRun) oneByOne() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].e.txn.Steps, func(s *txn.Step) bool {
		return s.Branch.WorkBatch == nil && s.Branch.Rejected.Recent()
	})
}

// undoes reports whether the Trys of the batch are made after a savepoint. So it is if
// a branch that is not the first one has rejected recently.
func (r *batchRun) undoes() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].e.txn.Steps[1:], func(s *txn.Step) bool { return s.Branch.Rejected.Recent() })
}

// tryOneByOne makes all Trys of a member, then those of the next one. A rejection undoes
// the effects of its member only.
func (r *batchRun) tryOneByOne(ctx context.Context) (going []*item, err error) {
	failures := make([]error, len(r.batch))
	began := time.Now()
	for i, m := range r.batch {
		if call.TooSlow(began, i*len(m.e.txn.Steps)) {
			return nil, call.ErrSlow
		}
		if err := r.exec(ctx, r.savepoint(i)); err != nil {
			return nil, err
		}
		for position := range m.e.txn.Steps {
			_, err := r.call(ctx, r.batch[i:i+1], position, barrier.Try)
			var failed *txn.BranchError
			var rejection *saga.Rejection
			switch {
			case err == nil:
				continue
			case !errors.As(err, &rejection) || !errors.As(err, &failed):
				return nil, err
			}
			failures[i] = failed
			if err := r.exec(ctx, "ROLLBACK TO SAVEPOINT tccsaga_member"); err != nil {
				return nil, err
			}
			break
		}
	}
	if errors.Join(failures...) == nil {
		return r.batch, nil
	}
	return r.recordCancelled(ctx, r.batch, failures)
}

// savepoint returns the statement that sets the savepoint of the n-th member. MySQL
// replaces a savepoint of the same name; the others do not.
func (r *batchRun) savepoint(n int) string {
	const mark = "SAVEPOINT tccsaga_member"
	if n == 0 || r.d.DB.Name() == "mysql" {
		return mark
	}
	return "RELEASE " + mark + "; " + mark
}

func (r *batchRun) exec(ctx context.Context, statement string) error {
	if _, err := r.tx.Statement.ConnPool.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("a savepoint of a batch: %w", err)
	}
	return nil
}

func failureOf(op barrier.Op, batch []*item, failures []error) *batchFailure {
	s := &batchFailure{op: op, err: errors.Join(failures...)}
	for i, m := range batch {
		if failures[i] != nil {
			s.failed = append(s.failed, m)
		}
	}
	return s
}

// call makes the same call of the branch at a position for each member. The failures
// are in the order of the batch, and nil if there is none. The error is of the
// database, or a batchFailure.
func (r *batchRun) call(ctx context.Context, batch []*item, position int, op barrier.Op) (failures []error, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	b := batch[0].e.txn.Steps[position].Branch
	calls := make([]saga.BatchCall, len(batch))
	for i, m := range batch {
		// The end of one caller would break the connection of all members.
		calls[i] = saga.BatchCall{Context: context.WithoutCancel(m.ctx), Call: m.e.txn.Call(m.e.txn.Steps[position], op)}
	}
	failures, err = r.d.Shared.Batch(ctx, r.tx, r.watch, b, calls)
	failure := func(m *item, err error) error {
		var rejection *saga.Rejection
		if errors.As(err, &rejection) {
			b.Rejected.Note()
		}
		return &txn.BranchError{Index: position, ID: m.e.txn.Steps[position].ID, Kind: b.Kind, Err: err}
	}
	var one *call.SingleFailure
	if errors.As(err, &one) {
		m := batch[one.Index]
		return nil, &batchFailure{op: op, failed: []*item{m}, split: true, err: failure(m, one.Err)}
	}
	for i, err := range failures {
		if err != nil {
			failures[i] = failure(batch[i], err)
		}
	}
	return failures, err
}

// logConfirmed writes the transactions of a batch as decided. It writes them as finished
// if all their Confirms are in the same commit.
func (r *batchRun) logConfirmed(ctx context.Context) error {
	starts := make([]txlog.Start, len(r.batch))
	var tried, confirmed []barrier.Request
	for i, m := range r.batch {
		start := m.e.start
		start.DecidedBy, start.Due, start.State = txlog.ByCaller, r.d.Lease, txlog.Confirmed
		for _, s := range m.e.txn.Steps {
			request := call.Request(m.e.txn.Call(s, barrier.Try))
			if s.Branch.ConfirmsInLog() {
				confirmed = append(confirmed, request)
			} else {
				tried, start.State = append(tried, request), txlog.Confirming
			}
		}
		if start.State == txlog.Confirming {
			start.Branches = slices.Clone(start.Branches)
			for n, s := range m.e.txn.Steps {
				start.Branches[n].Done = s.Branch.ConfirmsInLog()
			}
		}
		starts[i] = start
	}
	if err := r.d.Log.Insert(ctx, r.tx, starts...); err != nil {
		return err
	}
	return barrierrows.TryBatch(ctx, r.tx, tried, confirmed)
}

// recordCancelled records the members whose Trys have failed and left no effect as
// cancelled, and returns the others.
func (r *batchRun) recordCancelled(ctx context.Context, batch []*item, failures []error) (going []*item, err error) {
	var gids []string
	var starts []txlog.Start
	for i, m := range batch {
		if failures[i] == nil {
			going = append(going, m)
			continue
		}
		var failed *txn.BranchError
		errors.As(failures[i], &failed)
		r.refused[m] = failed
		start, why := m.e.start, reason.Of(failed)
		start.DecidedBy, start.State, start.Reason, start.Code, start.BranchID = txlog.ByCaller, txlog.Cancelled, why.Text, why.Code, why.BranchID
		gids, starts = append(gids, start.GID), append(starts, start)
	}
	if err := r.d.Log.Withdraw(ctx, r.tx, gids); err != nil {
		return nil, err
	}
	if err := barrierrows.Remove(ctx, r.tx, gids...); err != nil {
		return nil, err
	}
	return going, r.d.Log.Insert(ctx, r.tx, starts...)
}
