package tcctest

import (
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

const onStale = "change in one statement what it depends on, SET free = free - n, or read it with FOR UPDATE, because what was read before may be old when it is written"

// quiet is how long a call makes no progress until it is taken to wait for the
// lock of another. If that is wrong, an order shows less.
const quiet = 300 * time.Millisecond

// mostHeld is the number of statements at which a call is held, at most.
const mostHeld = 12

// pairOrders are about two transactions that do the same at the same time, of
// which the first is held within its work until the second is done, or waits.
func (e *exerciser) pairOrders() (all []order) {
	if e.branch.Database.Dialector.Name() == "sqlite" {
		e.notShown("that nothing stale is written, because SQLite lets one transaction write at a time (exercise it on MySQL or PostgreSQL)")
		return nil
	}
	for _, op := range []barrier.Op{try, confirm, cancel} {
		all = append(all, order{names[op] + " of two transactions at once", func(s *story) { s.t.Helper(); e.pairs(s, op) }})
	}
	return all
}

// pair is what two transactions have come to.
type pair struct {
	refused int
	state   any
}

// pairs holds the first of two transactions at each of its statements.
func (e *exerciser) pairs(s *story, op barrier.Op) {
	s.t.Helper()
	want, statements, ok := e.serial(s, op)
	if !ok {
		return
	}
	for n := 1; n <= min(statements, mostHeld); n++ {
		if s = e.begin(s.t); s == nil {
			return
		}
		gids := [2]string{s.gid, s.another()}
		if op != try {
			s.tryBoth(gids)
		}
		got := e.overlap(s, op, gids, n)
		switch {
		case s.failed:
			return
		case got.refused != want.refused:
			s.complain(fmt.Sprintf("%d were rejected, want %d as one after the other", got.refused, want.refused), onStale)
		case !equal(got.state, want.state):
			s.complain(differs(got.state, want.state)+" as one after the other", onStale)
		}
		if s.failed {
			return
		}
	}
}

// serial does it one after the other.
func (e *exerciser) serial(s *story, op barrier.Op) (want pair, statements int, ok bool) {
	s.t.Helper()
	gids := [2]string{s.gid, s.another()}
	if op != try && !e.canTryBoth(s, gids) {
		e.notShown(fmt.Sprintf("that %s writes nothing stale, because Case.Payload cannot be tried twice after Case.Reset", names[op]))
		return pair{}, 0, false
	}
	for _, gid := range gids {
		s.gid = gid
		h := &how{}
		err := s.make(op, names[op], h)
		statements = max(statements, len(h.statements))
		var no *saga.Rejection
		switch {
		case op == try && errors.As(err, &no):
			want.refused++
		case err != nil && op == try:
			e.notShown(fmt.Sprintf("that Try writes nothing stale, because a second one fails without a rejection: %v", err))
			return pair{}, 0, false
		case err != nil:
			s.complain(fmt.Sprintf("%s failed: %v", names[op], err), onTry)
		}
	}
	want.state = s.look()
	return want, statements, !s.failed
}

func (e *exerciser) canTryBoth(s *story, gids [2]string) bool {
	for _, gid := range gids {
		if err := e.call(s.t.Context(), gid, try, &how{}); err != nil {
			return false
		}
	}
	s.step("Try of two transactions")
	return true
}

func (s *story) tryBoth(gids [2]string) {
	s.t.Helper()
	if !s.e.canTryBoth(s, gids) {
		s.complain("a Try of two transactions failed, which had succeeded before", onTry)
	}
}

// overlap holds the call of the first transaction at its n-th statement until the
// call of the second is done, or waits for it.
func (e *exerciser) overlap(s *story, op barrier.Op, gids [2]string, n int) pair {
	s.t.Helper()
	ctx, failures := s.t.Context(), [2]error{}
	p := newPause()
	first, second := &how{fault: holds, at: n, paused: p}, &how{}
	firstDone, secondDone := make(chan struct{}), make(chan struct{})
	go func() { defer close(firstDone); failures[0] = e.call(ctx, gids[0], op, first) }()
	select {
	case <-p.reached:
	case <-firstDone:
	}
	go func() { defer close(secondDone); failures[1] = e.call(ctx, gids[1], op, second) }()
	second.settle(secondDone)
	close(p.release)
	<-firstDone
	<-secondDone
	s.step("%s of two transactions at once, the first held before its statement %d", names[op], n)
	return e.outcome(s, op, gids, failures)
}

// settle waits until a call is done or makes no progress.
func (h *how) settle(done <-chan struct{}) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for pace := int64(0); ; {
		select {
		case <-done:
			return
		case <-timer.C:
			now := h.pace.Load()
			if now == pace {
				return
			}
			pace = now
			timer.Reset(quiet)
		}
	}
}

// outcome is what the calls have come to. Confirm and Cancel are repeated while
// they fail, as the orchestrator does.
func (e *exerciser) outcome(s *story, op barrier.Op, gids [2]string, failures [2]error) (got pair) {
	s.t.Helper()
	for i, err := range failures {
		for again := 0; op != try && err != nil && again < 3; again++ {
			err = e.call(s.t.Context(), gids[i], op, &how{})
		}
		var no *saga.Rejection
		switch {
		case op == try && errors.As(err, &no):
			got.refused++
		case err != nil:
			s.notice(names[op], err)
			s.complain(fmt.Sprintf("%s failed: %v", names[op], err), onStale)
		}
	}
	s.hold(onStale)
	got.state = s.look()
	return got
}
