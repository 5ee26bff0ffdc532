package tcctest

import (
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

const onStale = "change in one statement what it depends on, SET free = free - n, or read it with FOR UPDATE, because what was read before may be old when it is written"

// stallTime is how long a call makes no progress until it is assumed to wait for a lock. If
// the assumption is wrong, an order shows less.
const stallTime = 300 * time.Millisecond

// maxHeld is the most statements at which a call is held.
const maxHeld = 12

// pairOrders test transactions that do the same at the same time. The first one is held in
// its work until the others are done, or wait for it.
type pairOrders struct{ *exerciser }

func (e pairOrders) list() (all []order) {
	if e.branch.Database.Dialector.Name() == "sqlite" {
		e.notShown("that nothing stale is written, because SQLite lets one transaction write at a time (exercise it on MySQL or PostgreSQL)")
		return nil
	}
	for _, op := range e.ops() {
		all = append(all, order{names[op] + " of several transactions at once", func(s *story) { s.t.Helper(); e.pairs(s, op) }})
	}
	return all
}

// pairs holds the first of several transactions at each of its statements. It uses three
// transactions if possible: if two write the same values, MySQL reports that the second
// one has changed nothing.
func (e pairOrders) pairs(s *story, op barrier.Op) {
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
	for n := 1; n <= min(statements, maxHeld); n++ {
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

// serial makes the calls one after the other. It returns the state for each number of
// successes, or nil if this many transactions cannot be tried.
func (e pairOrders) serial(s *story, op barrier.Op, many int) (states map[int]any, statements int) {
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

// overlap holds the call of the first transaction at its n-th statement, until the other
// calls are done, or one waits for it. It returns how many calls succeeded.
func (e pairOrders) overlap(s *story, op barrier.Op, gids []string, n int) (succeeded int) {
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
			free = h.doneOrStalled(calls[i])
		}
	}
	close(p.release)
	for _, call := range calls {
		<-call
	}
	s.step("%s of %d transactions at once, the first held before its statement %d", names[op], len(gids), n)
	return e.outcome(s, op, gids, failures)
}

// doneOrStalled waits until a call is done, or makes no progress. It reports whether the
// call is done.
func (h *how) doneOrStalled(done <-chan struct{}) bool {
	timer := time.NewTimer(stallTime)
	defer timer.Stop()
	for progress := int64(0); ; {
		select {
		case <-done:
			return true
		case <-timer.C:
			now := h.progress.Load()
			if now == progress {
				return false
			}
			progress = now
			timer.Reset(stallTime)
		}
	}
}

// outcome returns how many calls have succeeded. It repeats a Confirm or Cancel that fails,
// as the engine does.
func (e pairOrders) outcome(s *story, op barrier.Op, gids []string, failures []error) (succeeded int) {
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
