package call

import (
	"context"
	"errors"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/inputs"
	"github.com/tccsaga/tccsaga/saga/internal/result"
)

// gatheredRun is one run of the local transaction of a batch.
type gatheredRun struct {
	calls *Caller
	in    *place
	tx    *gorm.DB
	watch *Watch
	all   []*gathered
	look  bool // the barrier turns a call away, and has to be read
}

// errLook says that the barrier turns away a call of a batch, or that a row does not know its
// input: it has to be read which one.
var errLook = errors.New("the barrier turns a call of the batch away")

// run makes the calls. The failures are those of Trys without an effect.
func (r *gatheredRun) run(ctx context.Context) (failures []error, err error) {
	requests := make([]barrier.Request, len(r.all))
	for i, m := range r.all {
		m.result, m.found = nil, "" // of an earlier run
		requests[i] = r.calls.Request(m.call)
	}
	switch r.all[0].call.Op {
	case barrier.Try:
		return r.try(ctx, requests)
	case barrier.Confirm:
		return nil, r.confirm(ctx, requests)
	default:
		return nil, r.cancel(ctx, requests)
	}
}

func (r *gatheredRun) try(ctx context.Context, requests []barrier.Request) (failures []error, err error) {
	if r.in.log != nil {
		unfit, joinErr := r.in.log.Join(ctx, r.tx, r.batchCalls())
		if joinErr != nil {
			return nil, joinErr
		}
		if unfit >= 0 {
			return nil, &batch.MemberError{Index: unfit, Err: errUnfit}
		}
	}
	if err = barrierrows.TryBatch(ctx, r.tx, requests, nil); err != nil {
		return nil, ofSomeMember(err)
	}
	if failures, err = r.tryWork(ctx); err != nil {
		return nil, err
	}
	var failed []string
	var results []result.Result
	for i, m := range r.all {
		switch {
		case failures != nil && failures[i] != nil:
			failed = append(failed, m.call.GID)
			continue
		case CheckResult(m.result) != nil:
			return nil, &batch.MemberError{Index: i, Err: CheckResult(m.result)}
		case m.result != nil:
			results = append(results, result.Result{Key: m.call.Key(), JSON: m.result})
		}
		if err := r.calls.keepInput(ctx, r.tx, m.call); err != nil {
			return nil, &batch.MemberError{Index: i, Err: err}
		}
	}
	if len(failed) > 0 {
		if err := r.untry(ctx, requests[0].BranchID, failed); err != nil {
			return nil, err
		}
	}
	return failures, result.Put(ctx, r.tx, results...)
}

// untry removes the rows of branches whose Trys have failed without an effect.
func (r *gatheredRun) untry(ctx context.Context, branchID string, gids []string) error {
	if r.in.log != nil {
		if err := r.in.log.Leave(ctx, r.tx, branchID, gids); err != nil {
			return err
		}
	}
	return barrierrows.Untry(ctx, r.tx, branchID, gids)
}

func (r *gatheredRun) confirm(ctx context.Context, requests []barrier.Request) error {
	if !r.look {
		err := barrierrows.ConfirmMatching(ctx, r.tx, requests)
		if errors.Is(err, barrierrows.ErrNotAll) {
			return errLook
		}
		if err != nil {
			return err
		}
		return r.finish(ctx)
	}
	found, err := barrierrows.LookBatch(ctx, r.tx, requests)
	if err != nil {
		return err
	}
	for i := range found {
		if found[i] != barrierrows.Tried {
			return &batch.MemberError{Index: i, Err: barrierrows.ErrNotAll}
		}
	}
	return r.end(ctx, requests)
}

// cancel makes the Cancels of the branches that are tried, and suspends those without a row.
func (r *gatheredRun) cancel(ctx context.Context, requests []barrier.Request) error {
	found, err := barrierrows.LookBatch(ctx, r.tx, requests)
	if err != nil {
		return err
	}
	tried := &gatheredRun{calls: r.calls, in: r.in, tx: r.tx, watch: r.watch}
	var triedRequests, missing []barrier.Request
	for i, m := range r.all {
		switch found[i] {
		case barrierrows.Tried:
			tried.all, triedRequests = append(tried.all, m), append(triedRequests, requests[i])
		case barrierrows.Missing:
			missing, m.found = append(missing, requests[i]), barrier.EmptyRollback
		default:
			return &batch.MemberError{Index: i, Err: barrierrows.ErrNotAll}
		}
	}
	if len(missing) > 0 {
		if err = barrierrows.SuspendBatch(ctx, r.tx, missing); err != nil {
			return ofSomeMember(err)
		}
	}
	if len(triedRequests) == 0 {
		return nil
	}
	err = tried.end(ctx, triedRequests)
	var one *batch.MemberError
	if errors.As(err, &one) {
		one.Index = slices.Index(r.all, tried.all[one.Index])
	}
	return err
}

// end makes the Confirms or Cancels of branches that are tried.
func (r *gatheredRun) end(ctx context.Context, requests []barrier.Request) error {
	gids := make([]string, len(requests))
	for i, request := range requests {
		gids[i] = request.GID
	}
	if err := barrierrows.EndBatch(ctx, r.tx, requests[0].Op, requests[0].BranchID, gids); err != nil {
		return err
	}
	return r.finish(ctx)
}

// finish does what a Confirm or Cancel does after the barrier.
func (r *gatheredRun) finish(ctx context.Context) error {
	for i, m := range r.all {
		if !r.calls.asks(m.call) {
			continue
		}
		if err := inputs.Remove(ctx, r.tx, m.call.Key()); err != nil {
			return &batch.MemberError{Index: i, Err: err}
		}
	}
	failures, err := r.work(ctx)
	if err != nil {
		return err
	}
	for i := range failures {
		if failures[i] != nil {
			return &batch.MemberError{Index: i, Err: failures[i]}
		}
	}
	return nil
}

// tryWork calls the Work for all Trys. If the branch has no WorkBatch and has rejected
// recently, each Try has a savepoint, and a rejection undoes its own work only.
func (r *gatheredRun) tryWork(ctx context.Context) (failures []error, err error) {
	b := r.all[0].branch
	if b.WorkBatch != nil || !b.Rejected.Recent() {
		return r.work(ctx)
	}
	failures = make([]error, len(r.all))
	began, point := time.Now(), NewSavepoint(r.tx)
	for i := range r.all {
		if TooSlow(began, i) {
			return nil, ErrSlow
		}
		if err := point.Set(ctx); err != nil {
			return nil, err
		}
		one := &gatheredRun{calls: r.calls, in: r.in, tx: r.tx, watch: r.watch, all: r.all[i : i+1]}
		_, err := one.work(ctx)
		var failed *batch.MemberError
		var rejection *saga.Rejection
		switch {
		case errors.As(err, &rejection):
			if failures[i], err = rejection, point.RollBack(ctx); err != nil {
				return nil, err
			}
		case errors.As(err, &failed):
			return nil, &batch.MemberError{Index: i, Err: failed.Err}
		case err != nil:
			return nil, err
		}
	}
	return failures, nil
}

// work calls the Work of the branch for all calls.
func (r *gatheredRun) work(ctx context.Context) (failures []error, err error) {
	run := r.in.shared.RunBatch
	if r.in.log != nil {
		run = r.in.shared.CallBatch
	}
	failures, err = run(ctx, r.tx, r.watch, r.all[0].branch, r.batchCalls())
	var one *SingleFailure
	if errors.As(err, &one) {
		r.noteRejection(one.Err)
		return nil, &batch.MemberError{Index: one.Index, Err: one.Err}
	}
	for _, failure := range failures {
		r.noteRejection(failure)
	}
	return failures, err
}

func (r *gatheredRun) batchCalls() []saga.BatchCall {
	calls := make([]saga.BatchCall, len(r.all))
	for i, m := range r.all {
		// Without the end of the caller's context: it would break the connection of all.
		calls[i] = saga.BatchCall{Context: context.WithoutCancel(m.ctx), Call: m.call}
		if m.call.Result != nil {
			calls[i].Result = &m.result
		}
	}
	return calls
}

func (r *gatheredRun) noteRejection(err error) {
	var rejection *saga.Rejection
	if errors.As(err, &rejection) {
		r.all[0].branch.Rejected.Note()
	}
}

// ofSomeMember adds to an error that one call has caused it, if that is so.
func ofSomeMember(err error) error {
	if errors.Is(err, barrierrows.ErrNotAll) {
		return errors.Join(batch.ErrSomeMember, err)
	}
	return err
}
