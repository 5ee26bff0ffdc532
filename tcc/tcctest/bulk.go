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

// bulkOrders are about the transactions of many callers that are done at once.
func (e *exerciser) bulkOrders() []order {
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

// many is how many are done at once; of others than the first, nothing is known
// without a capacity.
func (e *exerciser) many() int { return max(1, min(3, e.capacity)) }

// bulk does at once what is then compared with the same, one by one.
func (e *exerciser) bulk(s *story) {
	s.t.Helper()
	tried, confirmed := e.oneByOne(s)
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	calls := s.callsOf(e.many())
	s.atOnce(calls, try, &how{crash: true})
	s.leaves(e.before, onCrash)
	s.allSucceed("TryAll", s.atOnce(calls, try, &how{}))
	s.leaves(tried, likeOne)
	s.deliver(calls)
	s.atOnce(calls, confirm, &how{crash: true})
	s.leaves(tried, onCrash)
	s.allSucceed("ConfirmAll", s.atOnce(calls, confirm, &how{}))
	s.leaves(confirmed, likeOne)
}

// oneByOne returns the states that the same leaves which is not done in bulk.
func (e *exerciser) oneByOne(s *story) (tried, confirmed any) {
	s.t.Helper()
	calls := s.callsOf(e.many())
	s.each(calls, try)
	tried = s.look()
	s.each(calls, confirm)
	return tried, s.look()
}

// bulkStatements lets each statement of a bulk operation fail in turn, and each
// that changes rows find none.
func (e *exerciser) bulkStatements(s *story, op barrier.Op) {
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
	if _, err := s.attempt(op, usual); err != nil {
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
			failures, err := s.attempt(op, &how{fault: kind, at: i + 1})
			if got := s.look(); kind == fails && err == nil {
				s.complain(fmt.Sprintf("%sAll returned no error of its own, want that of statement %d (%s)", names[op], i+1, statement.short()), onAll)
			} else if kind == skips && err == nil && errors.Join(failures...) == nil && !equal(got, want) {
				s.complain(fmt.Sprintf("%sAll returned nil although statement %d (%s) changed no row, and %s", names[op], i+1, statement.short(), differs(got, want)), onNoRow)
			}
		}
	}
}

// attempt makes a bulk operation with a fault, after what comes before it.
func (s *story) attempt(op barrier.Op, h *how) (failures []error, err error) {
	s.t.Helper()
	calls := s.callsOf(s.e.many())
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

// aloneTogether looks at what bulk operations do elsewhere.
func (e *exerciser) aloneTogether(s *story) *story {
	s.t.Helper()
	if s = e.begin(s.t); s == nil {
		return nil
	}
	calls := s.callsOf(e.many())
	s.atOnce(calls, try, &how{watched: true})
	s.deliver(calls)
	s.atOnce(calls, confirm, &how{watched: true})
	return s
}

// bulkOversell tries more at once than there is for.
func (e *exerciser) bulkOversell(s *story) {
	s.t.Helper()
	s.each(s.callsOf(e.capacity), try)
	full := s.look()
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	failures := s.atOnce(s.callsOf(e.capacity+2), try, &how{})
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

// callsOf are calls of n new transactions.
func (s *story) callsOf(n int) []saga.BatchCall {
	calls := make([]saga.BatchCall, n)
	for i := range calls {
		calls[i] = saga.BatchCall{Context: s.t.Context(), Call: saga.Call{GID: s.another(), BranchID: "01", Kind: s.e.branch.Name, Attempt: 1, Payload: s.e.payload}}
	}
	return calls
}

func (s *story) each(calls []saga.BatchCall, op barrier.Op) {
	s.t.Helper()
	for _, c := range calls {
		s.gid = c.GID
		s.succeeds(op, "Case.Capacity says that as many succeed")
	}
}

// atOnce makes an operation of all the calls in one local transaction. The
// failures are those of the calls.
func (s *story) atOnce(calls []saga.BatchCall, op barrier.Op, h *how) []error {
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

// all makes the operation; the error is of the whole.
func (s *story) all(calls []saga.BatchCall, op barrier.Op, h *how) (failures []error, err error) {
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
	err = s.e.plain(s.t.Context(), func(tx *gorm.DB) (err error) {
		err = s.e.visitInside(s.t.Context(), h, name, tx, func(ctx context.Context, tx *gorm.DB) (err error) {
			failures, err = s.e.branch.WorkBatch(ctx, tx, op, calls)
			return err
		})
		if err == nil && h.crash {
			return errCrash
		}
		return err
	})
	if errors.Is(err, errHangs) {
		return nil, err // the failures may be written yet
	}
	return failures, err
}

func (s *story) allSucceed(name string, failures []error) {
	s.t.Helper()
	if err := errors.Join(failures...); err != nil {
		s.complain(fmt.Sprintf("%s returned a failure: %v", name, err), likeOne)
	}
}

// deliver makes the Outside part of the Confirms, if there is one.
func (s *story) deliver(calls []saga.BatchCall) {
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
			if calls[i].Receipt, err = s.e.outside(s.t.Context(), calls[i].Call, &how{}); err != nil {
				s.complain(fmt.Sprintf("Deliver failed: %v", err), likeOne)
			}
		}
	}
}
