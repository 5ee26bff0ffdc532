package decide

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// try makes every Try, and returns the members whose Trys have all succeeded.
func (r *batchRun) try(ctx context.Context) (remaining []*item, err error) {
	if r.oneByOne() {
		return r.tryOneByOne(ctx)
	}
	undoable, point := r.needsSavepoint(), call.NewSavepoint(r.tx)
	if undoable {
		if err := point.Set(ctx); err != nil {
			return nil, err
		}
	}
	remaining = r.batch
	for position := range r.batch[0].steps {
		failures, err := r.call(ctx, remaining, position, barrier.Try)
		switch {
		case err != nil:
			return nil, err
		case failures == nil:
		case position == 0:
			if remaining, err = r.recordCancelled(ctx, remaining, failures); err != nil {
				return nil, err
			}
		case undoable && len(remaining) == len(r.batch) && allRejected(failures):
			return r.tryRest(ctx, point, failures)
		default:
			// The effects of their other branches have to be undone.
			return nil, failureOf(barrier.Try, remaining, failures)
		}
	}
	return remaining, nil
}

// tryRest undoes all Trys, which were made after a savepoint, and makes those of the members that were not rejected. If one
// of them fails now, the other rejections may depend on it, so the run fails.
func (r *batchRun) tryRest(ctx context.Context, point *call.Savepoint, failures []error) (remaining []*item, err error) {
	if err := point.RollBack(ctx); err != nil {
		return nil, err
	}
	r.forgetResults()
	for i, m := range r.batch {
		if failures[i] == nil {
			remaining = append(remaining, m)
		}
	}
	for position := range r.batch[0].steps {
		again, err := r.call(ctx, remaining, position, barrier.Try)
		if err != nil {
			return nil, err
		}
		if again != nil {
			return nil, failureOf(barrier.Try, remaining, again)
		}
	}
	return r.recordCancelled(ctx, r.batch, failures)
}

// allRejected reports whether every failure is a rejection.
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
// savepoint. They are if a branch without WorkBatch has rejected recently.
func (r *batchRun) oneByOne() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].steps, func(s *txn.Step) bool {
		return s.Branch.WorkBatch == nil && s.Branch.Rejected.Recent()
	})
}

// needsSavepoint reports whether the Trys of the batch are made after a savepoint. They are
// if a branch that is not the first one has rejected recently.
func (r *batchRun) needsSavepoint() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].steps[1:], func(s *txn.Step) bool { return s.Branch.Rejected.Recent() })
}

// tryOneByOne makes all Trys of a member, then those of the next one. A rejection undoes
// the effects of its member only.
func (r *batchRun) tryOneByOne(ctx context.Context) (remaining []*item, err error) {
	failures := make([]error, len(r.batch))
	began, point := time.Now(), call.NewSavepoint(r.tx)
	for i, m := range r.batch {
		if call.TooSlow(began, i*len(m.steps)) {
			return nil, call.ErrSlow
		}
		if err = point.Set(ctx); err != nil {
			return nil, err
		}
		if failures[i], err = r.tryMember(ctx, point, i); err != nil {
			return nil, err
		}
	}
	if errors.Join(failures...) == nil {
		return r.batch, nil
	}
	return r.recordCancelled(ctx, r.batch, failures)
}

// tryMember makes all Trys of the n-th member. If one is rejected, it undoes them and
// returns the rejection. Any other failure is an error.
func (r *batchRun) tryMember(ctx context.Context, point *call.Savepoint, n int) (rejected, err error) {
	for position := range r.batch[n].steps {
		_, err := r.call(ctx, r.batch[n:n+1], position, barrier.Try)
		var failed *txn.BranchError
		var rejection *saga.Rejection
		switch {
		case err == nil:
			continue
		case !errors.As(err, &rejection) || !errors.As(err, &failed):
			return nil, err
		}
		return failed, point.RollBack(ctx)
	}
	return nil, nil
}
