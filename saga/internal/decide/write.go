package decide

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// batchRun is one run of the local transaction of a decide batch. If it fails, nothing
// of it is kept.
type batchRun struct {
	d         *Decider
	tx        *gorm.DB
	watch     *call.Watch
	batch     []*item
	cancelled map[*item]*txn.BranchError
}

// write writes the log and the barrier as if every member succeeds, then makes every
// Try, then the Confirms. The Trys lock the rows that many transactions want, so they come
// late: another batch that needs the same locks writes its log rows meanwhile.
func (r *batchRun) write(ctx context.Context) error {
	if err := r.logAll(ctx); err != nil {
		return err
	}
	r.forgetResults()
	remaining, err := r.try(ctx)
	if err != nil {
		return err
	}
	if err := r.keepResults(ctx, remaining); err != nil {
		return err
	}
	if err := r.confirm(ctx, remaining); err != nil {
		return err
	}
	for _, m := range remaining {
		if local.Expired(m.ctx) != nil {
			return errCallerGone
		}
	}
	return nil
}

// forgetResults removes the results of Trys that are rolled back.
func (r *batchRun) forgetResults() {
	for _, m := range r.batch {
		forget(m.steps)
	}
}

// logAll writes the transactions of a batch as decided, or as begun. It writes them as finished
// if all their Confirms are in the same commit.
func (r *batchRun) logAll(ctx context.Context) error {
	starts := make([]txlog.Start, len(r.batch))
	var tried, confirmed []barrier.Request
	for i, m := range r.batch {
		triedHere, confirmedHere := requestsOf(m.e.txn, m.steps, !m.begins)
		tried, confirmed = append(tried, triedHere...), append(confirmed, confirmedHere...)
		if starts[i] = m.start; !m.begins {
			starts[i] = startConfirmed(m.e.start, m.e.txn, r.d.Lease)
		}
	}
	if err := r.d.Log.Insert(ctx, r.tx, starts...); err != nil {
		return err
	}
	return barrierrows.TryBatch(ctx, r.tx, tried, confirmed)
}

// requestsOf returns the Trys of resident steps of a plan. If the commit decides the plan, those
// of branches whose Confirm is in it are in confirmed.
func requestsOf(t *txn.Txn, steps []*txn.Step, decides bool) (tried, confirmed []barrier.Request) {
	for _, s := range steps {
		request := call.Request(t.Call(s, barrier.Try))
		if decides && s.EndsWithDecision() {
			confirmed = append(confirmed, request)
		} else {
			tried = append(tried, request)
		}
	}
	return tried, confirmed
}

// startConfirmed returns the row of a plan of resident branches that is decided to be
// confirmed with its first commit. It is due after due, unless that commit finishes it.
func startConfirmed(start txlog.Start, t *txn.Txn, due time.Duration) txlog.Start {
	start.DecidedBy, start.Due, start.State = txlog.ByCaller, due, txlog.Confirmed
	if slices.ContainsFunc(t.Steps, func(s *txn.Step) bool { return !s.EndsWithDecision() }) {
		start.State, start.Branches = txlog.Confirming, slices.Clone(start.Branches)
		for n, s := range t.Steps {
			start.Branches[n].Done = s.EndsWithDecision()
		}
	}
	return start
}

// confirm makes the Confirms that work only in the database. A failed Confirm does not
// change the decision: its member is decided alone, and confirmed later.
func (r *batchRun) confirm(ctx context.Context, members []*item) error {
	if r.batch[0].begins {
		return nil
	}
	for position, s := range r.batch[0].steps {
		if !s.EndsWithDecision() {
			continue
		}
		failures, err := r.call(ctx, members, position, barrier.Confirm)
		if err != nil {
			return err
		}
		if failures != nil {
			return failureOf(barrier.Confirm, members, failures)
		}
	}
	return nil
}

// call makes the same call of the branch at a position for each member. The failures
// are in the order of the members, and nil if there is none. The error is of the
// database, or a batchFailure.
func (r *batchRun) call(ctx context.Context, members []*item, position int, op barrier.Op) (failures []error, err error) {
	if len(members) == 0 {
		return nil, nil
	}
	b := members[0].steps[position].Branch
	calls := make([]saga.BatchCall, len(members))
	var results []json.RawMessage
	if op == barrier.Try && b.Action {
		results = make([]json.RawMessage, len(members))
	}
	for i, m := range members {
		// Without the end of the caller's context: it would break the connection of all
		// members.
		calls[i] = saga.BatchCall{Context: context.WithoutCancel(m.ctx), Call: m.e.txn.Call(m.steps[position], op)}
		if results != nil {
			calls[i].Result = &results[i]
		}
	}
	failures, err = r.d.Shared.CallBatch(ctx, r.tx, r.watch, b, calls)
	var one *call.SingleFailure
	if errors.As(err, &one) {
		m := members[one.Index]
		return nil, &batchFailure{op: op, failed: []*item{m}, stopped: true, err: m.branchError(position, one.Err)}
	}
	for i, err := range failures {
		if err != nil {
			failures[i] = members[i].branchError(position, err)
		}
	}
	for i := range results {
		members[i].steps[position].Result = results[i]
	}
	return failures, err
}

// keepResults stores the results of the Trys of members.
func (r *batchRun) keepResults(ctx context.Context, members []*item) error {
	if !r.batch[0].e.txn.HasRole(txlog.RoleAction) {
		return nil
	}
	var all []result.Result
	for _, m := range members {
		for position, s := range m.steps {
			if err := call.CheckResult(s.Result); err != nil {
				return &batchFailure{op: barrier.Try, failed: []*item{m}, err: m.branchError(position, err)}
			}
		}
		all = append(all, m.e.txn.Results(m.steps)...)
	}
	return result.Put(ctx, r.tx, all...)
}

// branchError is the error of the member's branch at a position. It notes a rejection.
func (m *item) branchError(position int, err error) *txn.BranchError {
	s := m.steps[position]
	var rejection *saga.Rejection
	if errors.As(err, &rejection) {
		s.Branch.Rejected.Note()
	}
	return &txn.BranchError{Index: position, ID: s.ID, Kind: s.Kind, Err: err}
}

func failureOf(op barrier.Op, members []*item, failures []error) *batchFailure {
	f := &batchFailure{op: op, err: errors.Join(failures...)}
	for i, m := range members {
		if failures[i] != nil {
			f.failed = append(f.failed, m)
		}
	}
	return f
}

// recordCancelled records the members whose Trys have failed without an effect as
// cancelled, and returns the others.
func (r *batchRun) recordCancelled(ctx context.Context, members []*item, failures []error) (remaining []*item, err error) {
	var gids []string
	var starts []txlog.Start
	for i, m := range members {
		if failures[i] == nil {
			remaining = append(remaining, m)
			continue
		}
		var failed *txn.BranchError
		errors.As(failures[i], &failed)
		r.cancelled[m] = failed
		start, why := m.e.start, reason.Of(failed)
		start.DecidedBy, start.State, start.Reason, start.Code, start.BranchID = txlog.ByCaller, txlog.Cancelled, why.Text, why.Code, why.BranchID
		gids, starts = append(gids, start.GID), append(starts, start)
	}
	if err := r.d.Log.Withdraw(ctx, r.tx, starts...); err != nil {
		return nil, err
	}
	if err := barrierrows.Remove(ctx, r.tx, gids...); err != nil {
		return nil, err
	}
	return remaining, r.d.Log.Insert(ctx, r.tx, starts...)
}
