package tcctest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// rounds is how often calls that meet are repeated: they do not meet each time.
const rounds = 20

// raceOrders are about calls at the same time.
func (e *exerciser) raceOrders() []order {
	all := []order{
		{"Try and Cancel at once", e.meet},
		{"two Confirms at once", func(s *story) { s.t.Helper(); e.twice(s, confirm, e.confirmed) }},
		{"two Cancels at once", func(s *story) { s.t.Helper(); e.twice(s, cancel, e.cancelled) }},
	}
	if !e.external() {
		all = append(all, order{"two Trys at once", func(s *story) { s.t.Helper(); e.twice(s, try, e.tried) }})
	}
	if e.capacity > 0 {
		all = append(all, order{"more want it than there is", e.oversell})
	}
	return all
}

// meet lets Try and Cancel of a transaction meet. An external Try may be under
// way when Cancel comes; the orchestrator cancels again only if that failed.
func (e *exerciser) meet(s *story) {
	s.t.Helper()
	for range rounds {
		if s = e.begin(s.t); s == nil {
			return
		}
		failures := s.together(try, cancel)
		if failures[1] != nil {
			s.complain(fmt.Sprintf("Cancel failed: %v", failures[1]), atOnce)
		}
		want := e.before
		switch {
		case e.external() && failures[0] == nil:
			// The call may have arrived after Cancel: nothing in a database can
			// tell. A context that ends has to end it; that cannot be shown here.
			continue
		case failures[0] == nil:
			want = e.cancelled
		case !e.external() && !errors.Is(failures[0], barrier.ErrSuspended):
			s.complain(fmt.Sprintf("Try failed: %v", failures[0]), atOnce)
		}
		if s.leavesOneOf(atOnce, e.nothing(want)...); s.failed {
			return
		}
	}
}

// twice lets two of the same call meet.
func (e *exerciser) twice(s *story, op barrier.Op, want any) {
	s.t.Helper()
	for range rounds {
		if s = e.begin(s.t); s == nil {
			return
		}
		if op != try {
			s.succeeds(try, onTry)
		}
		for _, err := range s.together(op, op) {
			if err != nil {
				s.complain(fmt.Sprintf("%s failed: %v", names[op], err), atOnce)
			}
		}
		if s.leaves(want, atOnce); s.failed {
			return
		}
	}
}

// oversell lets more transactions try than there is capacity for.
func (e *exerciser) oversell(s *story) {
	s.t.Helper()
	for range e.capacity { // one after the other, to know what is left in the end
		s.another()
		s.succeeds(try, "Case.Capacity says that as many succeed")
		s.succeeds(cancel, onTry)
	}
	want := s.look()
	if s.failed {
		return
	}
	if s = e.begin(s.t); s == nil {
		return
	}
	gids := s.manyTry(2*e.capacity + 4)
	if len(gids) > e.capacity {
		s.complain(fmt.Sprintf("%d Trys succeeded, want %d, which is Case.Capacity", len(gids), e.capacity), onOversell)
	} else if len(gids) < e.capacity {
		s.complain(fmt.Sprintf("%d Trys succeeded, want %d, which is Case.Capacity", len(gids), e.capacity), "let Try reject only when there is too little")
	}
	s.step("Cancel of those that succeeded")
	for _, gid := range gids {
		if err := e.call(s.t.Context(), gid, cancel, &how{}); err != nil {
			s.complain(fmt.Sprintf("Cancel failed: %v", err), atOnce)
		}
	}
	s.hold(atOnce)
	s.leaves(want, atOnce)
}

// manyTry tries in many transactions at the same time and returns the gids of
// those that succeeded.
func (s *story) manyTry(n int) (gids []string) {
	s.t.Helper()
	tried, failures := make([]string, n), make([]error, n)
	var calls sync.WaitGroup
	ready := make(chan struct{})
	for i := range n {
		tried[i] = s.another()
		calls.Go(func() {
			<-ready
			failures[i] = s.e.call(s.t.Context(), tried[i], try, &how{})
		})
	}
	close(ready)
	calls.Wait()
	s.step("Try of %d transactions at once", n)
	var wrong []error
	for i, err := range failures {
		var no *saga.Rejection
		switch {
		case err == nil:
			gids = append(gids, tried[i])
		case !errors.As(err, &no):
			s.notice("Try", err)
			wrong = append(wrong, err)
		}
	}
	s.hold(onOversell)
	if len(wrong) > 0 {
		s.complain(fmt.Sprintf("%d of them failed without a rejection: %v", len(wrong), wrong[0]),
			"return tcc.Reject when there is too little, and let transactions wait for each other's locks")
	}
	return gids
}
