package tcctest

import (
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

const onStale = "change in one statement what it depends on, SET free = free - n, or read it with FOR UPDATE, because what was read before may be old when it is written"

// quiet is how long a call makes no progress until it is taken to wait for the
// lock of another. If that is wrong, an order shows less.
const quiet = 300 * time.Millisecond

// mostHeld is the number of statements at which a call is held, at most.
const mostHeld = 12

// pairOrders are about transactions that do the same at the same time. The first
// is held within its work until the others are done, or wait for it.
func (e *exerciser) pairOrders() (all []order) {
	if e.branch.Database.Dialector.Name() == "sqlite" {
		e.notShown("that nothing stale is written, because SQLite lets one transaction write at a time (exercise it on MySQL or PostgreSQL)")
		return nil
	}
	for _, op := range []barrier.Op{try, confirm, cancel} {
		all = append(all, order{names[op] + " of several transactions at once", func(s *story) { s.t.Helper(); e.pairs(s, op) }})
	}
	return all
}

// pairs holds the first of several transactions at each of its statements. There
// are three if that is possible: of two that write the same, MySQL says that the
// second has changed nothing.
func (e *exerciser) pairs(s *story, op barrier.Op) {
	s.t.Helper()
	many := 3
	want, statements := e.serial(s, op, many)
	if want == nil && !s.failed {
		if s = e.begin(s.t); s == nil {
			return
		}
		many = 2
		want, statements = e.serial(s, op, many)
	}
	if want == nil && !s.failed {
		e.notShown(fmt.Sprintf("that %s writes nothing stale, because Case.Payload cannot be tried twice after Case.Reset", names[op]))
	}
	if want == nil {
		return
	}
	for n := 1; n <= min(statements, mostHeld); n++ {
		if s = e.begin(s.t); s == nil {
			return
		}
		gids := s.others(many)
		if op != try && !s.tryAll(gids) {
			s.complain("a Try failed that had succeeded before", onTry)
			return
		}
		succeeded := e.overlap(s, op, gids, n)
		s.hold(onStale)
		if got := s.look(); !equal(got, want[succeeded]) {
			s.complain(differs(got, want[succeeded])+" as one after the other", onStale)
		}
		if s.failed {
			return
		}
	}
}

// serial does it one after the other, and returns the states by how many have
// succeeded, or nil if so many cannot be tried.
func (e *exerciser) serial(s *story, op barrier.Op, many int) (states map[int]any, statements int) {
	s.t.Helper()
	gids := s.others(many)
	if op != try && !s.tryAll(gids) {
		return nil, 0
	}
	states = map[int]any{0: s.look()}
	for _, gid := range gids {
		h := &how{}
		err := e.call(s.t.Context(), gid, op, h)
		s.step("%s", names[op])
		statements = max(statements, len(h.statements))
		switch {
		case err == nil:
			states[len(states)] = s.look()
		case op != try:
			s.complain(fmt.Sprintf("%s failed: %v", names[op], err), onTry)
			return nil, 0
		}
	}
	if s.failed {
		return nil, 0
	}
	return states, statements
}

// others are the gids of new transactions.
func (s *story) others(n int) []string {
	gids := make([]string, n)
	for i := range gids {
		gids[i] = s.another()
	}
	return gids
}

// tryAll tries each, and reports whether all have succeeded.
func (s *story) tryAll(gids []string) bool {
	for _, gid := range gids {
		if err := s.e.call(s.t.Context(), gid, try, &how{}); err != nil {
			return false
		}
	}
	s.step("Try of %d transactions", len(gids))
	return true
}

// overlap holds the call of the first transaction at its n-th statement until the
// calls of the others are done, or one waits for it. It returns how many succeeded.
func (e *exerciser) overlap(s *story, op barrier.Op, gids []string, n int) (succeeded int) {
	s.t.Helper()
	ctx, failures := s.t.Context(), make([]error, len(gids))
	calls := make([]chan struct{}, len(gids))
	begin := func(i int, h *how) {
		calls[i] = make(chan struct{})
		go func() { defer close(calls[i]); failures[i] = e.call(ctx, gids[i], op, h) }()
	}
	p := newPause()
	begin(0, &how{fault: holds, at: n, paused: p})
	select {
	case <-p.reached:
	case <-calls[0]:
	}
	free := true
	for i := 1; i < len(gids); i++ {
		h := &how{}
		if begin(i, h); free {
			free = h.settle(calls[i])
		}
	}
	close(p.release)
	for _, call := range calls {
		<-call
	}
	s.step("%s of %d transactions at once, the first held before its statement %d", names[op], len(gids), n)
	return e.outcome(s, op, gids, failures)
}

// settle waits until a call is done, or makes no progress, which is false.
func (h *how) settle(done <-chan struct{}) bool {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for pace := int64(0); ; {
		select {
		case <-done:
			return true
		case <-timer.C:
			now := h.pace.Load()
			if now == pace {
				return false
			}
			pace = now
			timer.Reset(quiet)
		}
	}
}

// outcome is how many calls have succeeded. Confirm and Cancel are repeated while
// they fail, as the orchestrator does.
func (e *exerciser) outcome(s *story, op barrier.Op, gids []string, failures []error) (succeeded int) {
	s.t.Helper()
	for i, err := range failures {
		for again := 0; op != try && err != nil && again < 3; again++ {
			err = e.call(s.t.Context(), gids[i], op, &how{})
		}
		switch {
		case err == nil:
			succeeded++
		case op != try:
			s.notice(names[op], err)
			s.complain(fmt.Sprintf("%s failed: %v", names[op], err), onStale)
		}
	}
	return succeeded
}
