package tcctest

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

const (
	likeOne  = "let TryAll and ConfirmAll do for each item what Try and Confirm do"
	onExcess = "let TryAll reject those for whom there is nothing left, in the order of the items, and leave the others what they asked for"
	oneEach  = "return one failure for each item, or nil if there is none"
	onAll    = "return the error of every statement as the error of all, because the database may have rolled all back"
)

// batchOrders test a branch that handles several transactions at once.
type batchOrders struct{ *exerciser }

// batch is a story with batches of calls.
type batch struct{ *story }

func (e batchOrders) list() []order {
	all := []order{
		{"in bulk", e.bulk},
		{"a statement of TryAll goes wrong", func(s *story) { s.t.Helper(); e.bulkStatements(s, try) }},
		{"a statement of ConfirmAll goes wrong", func(s *story) { s.t.Helper(); e.bulkStatements(s, confirm) }},
	}
	if e.capacity > 0 {
		all = append(all, order{"more in bulk than there is", e.bulkOversell})
	}
	return all
}

// many is the size of a batch. Without a capacity, only the first Try is sure to succeed.
func (e batchOrders) many() int { return max(1, min(3, e.capacity)) }

// bulk makes calls one by one and then in a batch, and compares the states.
func (e batchOrders) bulk(s *story) {
	s.t.Helper()
	tried, confirmed := e.oneByOne(s)
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	calls := batch{s}.callsOf(e.many())
	batch{s}.atOnce(calls, try, &how{crash: true})
	s.leaves(e.before, onCrash)
	batch{s}.allSucceed("TryAll", batch{s}.atOnce(calls, try, &how{}))
	s.leaves(tried, likeOne)
	batch{s}.deliver(calls)
	batch{s}.atOnce(calls, confirm, &how{crash: true})
	s.leaves(tried, onCrash)
	batch{s}.allSucceed("ConfirmAll", batch{s}.atOnce(calls, confirm, &how{}))
	s.leaves(confirmed, likeOne)
}

// oneByOne makes the calls one by one, and returns the states that they leave.
func (e batchOrders) oneByOne(s *story) (tried, confirmed any) {
	s.t.Helper()
	calls := batch{s}.callsOf(e.many())
	batch{s}.each(calls, try)
	tried = s.look()
	batch{s}.each(calls, confirm)
	return tried, s.look()
}

// bulkStatements makes each statement of a batch fail in turn, and each statement that
// changes rows change none.
func (e batchOrders) bulkStatements(s *story, op barrier.Op) {
	s.t.Helper()
	want, confirmed := e.oneByOne(s)
	if op == confirm {
		want = confirmed
	}
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	usual := &how{}
	if _, err := (batch{s}).attempt(op, usual); err != nil {
		s.complain(fmt.Sprintf("%sAll failed: %v", names[op], err), likeOne)
	}
	for i, statement := range usual.statements {
		for _, kind := range []fault{fails, skips} {
			if s.failed || kind == skips && !statement.changes() {
				continue
			}
			if s = e.begin(s.t); s == nil {
				return
			}
			failures, err := batch{s}.attempt(op, &how{fault: kind, at: i + 1})
			if got := s.look(); kind == fails && err == nil {
				s.complain(fmt.Sprintf("%sAll returned no error of its own, want that of statement %d (%s)", names[op], i+1, statement.short()), onAll)
			} else if kind == skips && err == nil && errors.Join(failures...) == nil && !equal(got, want) {
				s.complain(fmt.Sprintf("%sAll returned nil although statement %d (%s) changed no row, and %s", names[op], i+1, statement.short(), differs(got, want)), onNoRow)
			}
		}
	}
}

// attempt makes a batch with a fault, and the calls that have to come before it.
func (s batch) attempt(op barrier.Op, h *how) (failures []error, err error) {
	s.t.Helper()
	calls := s.callsOf(batchOrders{s.e}.many())
	if op == confirm {
		s.allSucceed("TryAll", s.atOnce(calls, try, &how{}))
		s.deliver(calls)
	}
	if s.failed {
		return nil, nil
	}
	failures, err = s.all(calls, op, h)
	s.notice(names[op]+"All", err)
	return failures, err
}

// watched makes batches in which the branch is watched.
func (e batchOrders) watched(s *story) *story {
	s.t.Helper()
	if s = e.begin(s.t); s == nil {
		return nil
	}
	calls := batch{s}.callsOf(e.many())
	batch{s}.atOnce(calls, try, &how{watched: true})
	batch{s}.deliver(calls)
	batch{s}.atOnce(calls, confirm, &how{watched: true})
	return s
}

// bulkOversell tries more transactions in a batch than there is capacity for.
func (e batchOrders) bulkOversell(s *story) {
	s.t.Helper()
	batch{s}.each(batch{s}.callsOf(e.capacity), try)
	full := s.look()
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	failures := batch{s}.atOnce(batch{s}.callsOf(e.capacity+2), try, &how{})
	refused := 0
	for i, err := range failures {
		var no *saga.Rejection
		switch {
		case errors.As(err, &no):
			refused++
		case err != nil:
			s.complain(fmt.Sprintf("item %d failed without a rejection: %v", i+1, err), onExcess)
		}
	}
	if refused != 2 {
		s.complain(fmt.Sprintf("%d were rejected, want 2, because Case.Capacity is %d", refused, e.capacity), onExcess)
	}
	s.leaves(full, onExcess)
}

// callsOf returns calls of n new transactions.
func (s batch) callsOf(n int) []saga.BatchCall {
	calls := make([]saga.BatchCall, n)
	for i := range calls {
		calls[i] = saga.BatchCall{Context: s.t.Context(), Call: saga.Call{GID: s.another(), BranchID: "01", Kind: s.e.branch.Name, Attempt: 1, Payload: s.e.payload}}
	}
	return calls
}

func (s batch) each(calls []saga.BatchCall, op barrier.Op) {
	s.t.Helper()
	for _, c := range calls {
		s.gid = c.GID
		s.succeeds(op, "Case.Capacity says that as many succeed")
	}
}

// atOnce runs one operation for all calls in one local transaction. It returns the failures
// of the calls.
func (s batch) atOnce(calls []saga.BatchCall, op barrier.Op, h *how) []error {
	s.t.Helper()
	failures, err := s.all(calls, op, h)
	s.notice(names[op]+"All", err)
	if err != nil && !errors.Is(err, errCrash) {
		s.complain(fmt.Sprintf("%sAll failed: %v", names[op], err), likeOne)
	}
	if failures != nil && len(failures) != len(calls) {
		s.complain(fmt.Sprintf("%sAll returned %d failures, want %d", names[op], len(failures), len(calls)), oneEach)
		failures = nil
	}
	s.hold(likeOne)
	return failures
}

// all makes an operation of all calls, and returns their failures, or the error of the
// batch.
func (s batch) all(calls []saga.BatchCall, op barrier.Op, h *how) (failures []error, err error) {
	name := names[op] + "All"
	said := fmt.Sprintf("%s of %d transactions", name, len(calls))
	switch {
	case h.crash:
		said += ", and a crash before the commit"
	case h.fault == fails:
		said += fmt.Sprintf(", of which statement %d fails", h.at)
	case h.fault == skips:
		said += fmt.Sprintf(", of which statement %d changes no row", h.at)
	}
	s.step("%s", said)
	for i := range calls {
		calls[i].Op = op
	}
	err = s.e.withoutBarrier(s.t.Context(), func(tx *gorm.DB) error {
		runErr := s.e.runInTx(s.t.Context(), h, name, tx, func(ctx context.Context, tx *gorm.DB) (callErr error) {
			failures, callErr = s.e.branch.WorkBatch(ctx, tx, op, calls)
			return callErr
		})
		if runErr == nil && h.crash {
			return errCrash
		}
		return runErr
	})
	if errors.Is(err, errHangs) {
		return nil, err // a call that was given up may still write the failures
	}
	return failures, err
}

func (s batch) allSucceed(name string, failures []error) {
	s.t.Helper()
	if err := errors.Join(failures...); err != nil {
		s.complain(fmt.Sprintf("%s returned a failure: %v", name, err), likeOne)
	}
}

// deliver makes the effects of the Confirms, if there are any.
func (s batch) deliver(calls []saga.BatchCall) {
	s.t.Helper()
	if s.failed {
		return
	}
	for i := range calls {
		calls[i].Op = confirm
	}
	b := s.e.branch
	if batch := b.EffectBatches[confirm]; batch != nil {
		s.step("DeliverAll of %d", len(calls))
		receipts, failures := batch(s.t.Context(), calls)
		if s.allSucceed("DeliverAll", failures); len(receipts) != len(calls) {
			s.complain(fmt.Sprintf("DeliverAll returned %d receipts, want %d", len(receipts), len(calls)), "return one for each item")
			return
		}
		for i := range calls {
			calls[i].Receipt = receipts[i]
		}
		return
	}
	for i := range calls {
		if b.Effects[confirm] != nil {
			var err error
			if calls[i].Receipt, err = s.e.effect(s.t.Context(), calls[i].Call, &how{}); err != nil {
				s.complain(fmt.Sprintf("Deliver failed: %v", err), likeOne)
			}
		}
	}
}
