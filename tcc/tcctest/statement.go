package tcctest

import (
	"fmt"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Advice about statements.
const (
	onFailure    = "return the error of every statement, because the database may have rolled all back, and what follows would commit alone"
	onNoRow      = "look at the rows affected, and return an error if there are too few"
	onIgnoredEnd = "use the tx as it is given, or pass on the ctx of the call, so that a statement ends when the call does"
)

// statementOrders make each statement of the branch go wrong in turn.
type statementOrders struct{ *exerciser }

func (e statementOrders) list() (all []order) {
	for _, op := range e.ops() {
		all = append(all,
			order{"a statement of " + names[op] + " fails", func(s *story) { s.t.Helper(); e.failing(s, op) }},
			order{"a statement of " + names[op] + " changes no row", func(s *story) { s.t.Helper(); e.skipping(s, op) }},
			order{"a statement of " + names[op] + " is not answered", func(s *story) { s.t.Helper(); e.hanging(s, op) }},
		)
	}
	return all
}

// failing makes each statement of an operation fail in turn. The statements after it
// succeed, as if the database had rolled everything back and gone on.
func (e statementOrders) failing(s *story, op barrier.Op) {
	s.t.Helper()
	for n := 1; ; n++ {
		if s = e.begin(s.t); s == nil {
			return
		}
		before := s.prepare(op)
		h := &how{fault: fails, at: n}
		err := s.make(op, fmt.Sprintf("%s, of which statement %d fails", names[op], n), h)
		if s.failed || h.unreached() {
			return
		}
		if h.returnedNil {
			s.complain(fmt.Sprintf("%s returned nil, want the error of statement %d (%s)", names[op], n, h.statements[n-1].short()), onFailure)
		} else if err == nil {
			s.complain(names[op]+" succeeded", onFailure)
		}
		if e.recovers(s, op, before, onFailure); s.failed {
			return
		}
	}
}

// recovers checks the state after a failed call, and makes the call again.
func (e statementOrders) recovers(s *story, op barrier.Op, before any, advice string) {
	s.t.Helper()
	if e.branch.Effects[op] == nil {
		s.leaves(before, advice)
	}
	s.succeeds(op, onCrash)
	s.leaves(e.leftBy(op), onCrash)
}

// skipping makes each statement that changes rows change none.
func (e statementOrders) skipping(s *story, op barrier.Op) {
	s.t.Helper()
	s.prepare(op)
	usual := &how{}
	if err := s.make(op, names[op], usual); err != nil {
		s.complain(fmt.Sprintf("%s failed: %v", names[op], err), onTry)
	}
	for i, statement := range usual.statements {
		if !statement.changes() || s.failed {
			continue
		}
		if s = e.begin(s.t); s == nil {
			return
		}
		before := s.prepare(op)
		err := s.make(op, fmt.Sprintf("%s, of which statement %d (%s) changes no row", names[op], i+1, statement.short()), &how{fault: skips, at: i + 1})
		if err != nil {
			e.recovers(s, op, before, onNoRow)
			continue
		}
		if got := s.look(); !equal(got, e.leftBy(op)) {
			s.complain(fmt.Sprintf("%s returned nil and %s", names[op], differs(got, e.leftBy(op))), onNoRow)
		}
	}
}

// hanging ends the context of a call at each statement in turn.
func (e statementOrders) hanging(s *story, op barrier.Op) {
	s.t.Helper()
	for n := 1; ; n++ {
		if s = e.begin(s.t); s == nil {
			return
		}
		before := s.prepare(op)
		h := &how{fault: hangs, at: n}
		err := s.make(op, fmt.Sprintf("%s, whose context ends during statement %d", names[op], n), h)
		if s.failed || h.unreached() {
			return
		}
		if h.ignoresEnd {
			s.complain(fmt.Sprintf("statement %d (%s) goes on, want it to end", n, h.statements[n-1].short()), onIgnoredEnd)
		} else if err == nil {
			s.complain(names[op]+" succeeded", onFailure)
		}
		if e.recovers(s, op, before, onIgnoredEnd); s.failed {
			return
		}
	}
}
