package tcctest

import (
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

const (
	likeOne  = "TryAll and ConfirmAll have to do for each what Try and Confirm do"
	onExcess = "TryAll has to say no to those for whom there is nothing left, in the order of the items, and leave the others what they asked for"
)

// bulkOrders are about the transactions of many callers that are done at once.
func (e *exerciser) bulkOrders() []order {
	all := []order{{"in bulk", e.bulk}}
	if e.capacity > 0 {
		all = append(all, order{"more in bulk than there is", e.bulkOversell})
	}
	return all
}

// bulk does at once what is then compared with the same, one by one.
func (e *exerciser) bulk(s *story) {
	n := max(1, min(3, e.capacity)) // of others than the first, nothing is known
	calls := s.callsOf(n)
	s.oneByOne(calls, try)
	tried := s.look()
	s.oneByOne(calls, confirm)
	confirmed := s.look()
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	calls = s.callsOf(n)
	s.atOnce(calls, try, errCrash)
	s.leaves(e.before, onCrash)
	s.allSucceed(s.atOnce(calls, try, nil))
	s.leaves(tried, likeOne)
	if s.failed {
		return
	}
	s.deliver(calls)
	s.atOnce(calls, confirm, errCrash)
	s.leaves(tried, onCrash)
	s.allSucceed(s.atOnce(calls, confirm, nil))
	s.leaves(confirmed, likeOne)
}

// bulkOversell tries more at once than there is for.
func (e *exerciser) bulkOversell(s *story) {
	s.oneByOne(s.callsOf(e.capacity), try)
	full := s.look()
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	failures := s.atOnce(s.callsOf(e.capacity+2), try, nil)
	if len(failures) != e.capacity+2 {
		s.complain("%d failures came back, and Case.Capacity is %d. %s", len(failures), e.capacity, onExcess)
		return
	}
	refused := 0
	for i, err := range failures {
		var no *saga.Rejection
		switch {
		case errors.As(err, &no):
			refused++
		case err != nil:
			s.complain("number %d failed, and was not rejected: %v", i+1, err)
		}
	}
	if refused != 2 {
		s.complain("%d were rejected, and Case.Capacity is %d. %s", refused, e.capacity, onExcess)
	}
	s.leaves(full, onExcess)
}

// callsOf are calls of n new transactions.
func (s *story) callsOf(n int) []saga.JointCall {
	calls := make([]saga.JointCall, n)
	for i := range calls {
		s.another()
		calls[i] = saga.JointCall{Context: s.t.Context(), Call: saga.Call{GID: s.gid, BranchID: "01", Kind: s.e.branch.Kind, Attempt: 1, Payload: s.e.payload}}
	}
	return calls
}

func (s *story) oneByOne(calls []saga.JointCall, op barrier.Op) {
	s.t.Helper()
	for _, c := range calls {
		s.gid = c.GID
		s.succeeds(op)
	}
}

// atOnce makes an operation of all the calls in one local transaction, which then
// ends with end. The failures are those of the calls.
func (s *story) atOnce(calls []saga.JointCall, op barrier.Op, end error) (failures []error) {
	s.t.Helper()
	said := fmt.Sprintf("%sAll of %d transactions", names[op], len(calls))
	if end != nil {
		said += ", and a crash before the commit"
	}
	s.steps = append(s.steps, said)
	for i := range calls {
		calls[i].Op = op
	}
	err := s.e.branch.Database.WithContext(s.t.Context()).Transaction(func(tx *gorm.DB) (err error) {
		if failures, err = s.e.branch.Together(s.t.Context(), tx, op, calls); err != nil {
			return err
		}
		return end
	})
	if err != nil && !errors.Is(err, errCrash) {
		s.complain("%sAll failed: %v", names[op], err)
	}
	if failures != nil && len(failures) != len(calls) {
		s.complain("%sAll of %d returned %d failures: it needs one for each, or none at all", names[op], len(calls), len(failures))
		failures = nil
	}
	s.hold()
	return failures
}

func (s *story) allSucceed(failures []error) {
	s.t.Helper()
	if err := errors.Join(failures...); err != nil {
		s.complain("a failure came back: %v", err)
	}
}

// deliver makes the Outside part of the Confirms, if there is one.
func (s *story) deliver(calls []saga.JointCall) {
	s.t.Helper()
	for i := range calls {
		calls[i].Op = confirm
	}
	b := s.e.branch
	if together := b.OutsideTogether[confirm]; together != nil {
		s.steps = append(s.steps, fmt.Sprintf("DeliverAll of %d", len(calls)))
		receipts, failures := together(s.t.Context(), calls)
		if s.allSucceed(failures); len(receipts) != len(calls) {
			s.complain("%d receipts came back", len(receipts))
			return
		}
		for i := range calls {
			calls[i].Receipt = receipts[i]
		}
		return
	}
	for i := range calls {
		if act := b.Outside[confirm]; act != nil {
			var err error
			if calls[i].Receipt, err = act(s.t.Context(), calls[i].Call); err != nil {
				s.complain("Deliver failed: %v", err)
			}
		}
	}
}
