package tcctest

import (
	"fmt"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Advice about the other side.
const (
	onRefusal = "return an error whenever the other side did not say yes, a status other than 2xx included, so that the call is repeated or cancelled"
	onStuck   = "make the request with the ctx of the call, as http.NewRequestWithContext does, so that it ends when the call does"
	onUnknown = "return the error, and let the call be repeated with the same key"
)

// effectOrders test the effects of a branch: its calls outside of a local transaction.
type effectOrders struct{ *exerciser }

func (e effectOrders) list() (all []order) {
	for _, op := range e.ops() {
		if e.branch.Effects[op] == nil {
			continue
		}
		if op != try {
			all = append(all, order{"the reply of " + names[op] + " is lost", func(s *story) {
				s.t.Helper()
				s.succeeds(try, onTry)
				s.breaks(op, names[op]+", of which the reply is lost", &how{crash: true})
				s.succeeds(op, onRepeat)
				s.leaves(e.leftBy(op), onRepeat)
			}})
		}
		if e.breaks != nil {
			all = append(all, order{"the other side fails in " + names[op], func(s *story) { s.t.Helper(); e.broken(s, op) }})
		}
		if e.http != nil {
			all = append(all, order{"an HTTP request of " + names[op] + " fails", func(s *story) { s.t.Helper(); e.spoiled(s, op) }})
		}
	}
	if e.external() {
		all = append(all, order{"Try marked and never sent, Cancel", func(s *story) {
			s.t.Helper()
			s.breaks(try, "Try, marked and never sent because of a crash", &how{unsent: true})
			s.leaves(e.before, onNothing)
			s.succeeds(cancel, onNothing)
			s.leavesOneOf(onNothing, e.nothing(e.before)...)
			s.succeeds(cancel, onNothing)
			s.leavesOneOf(onNothing, e.nothing(e.before)...)
		}})
	}
	if len(e.branch.Effects) > 0 && e.breaks == nil && e.http == nil {
		e.notShown("that a failure of the other side is returned (give Case.HTTP or Case.Break)")
	}
	return all
}

// broken makes a call while the other side fails.
func (e effectOrders) broken(s *story, op barrier.Op) {
	s.t.Helper()
	s.prepare(op)
	if s.failed {
		return
	}
	mend, err := e.breaks(s.t.Context())
	if err != nil {
		s.t.Errorf("tcctest: Case.Break: %v", err)
		return
	}
	h := &how{}
	s.step("%s while the other side fails", names[op])
	err = e.call(s.t.Context(), s.gid, op, h)
	mend()
	s.notice(names[op], err)
	e.judge(s, op, err, "the other side failed")
}

// spoiled makes each request of a call fail, in each way.
func (e effectOrders) spoiled(s *story, op barrier.Op) {
	s.t.Helper()
	if !e.http.used() {
		s.complain("no request has gone through Case.HTTP", "give it to the http.Client of the branch as its Transport")
		return
	}
	for n := 1; ; n++ {
		for _, kind := range []spoil{refused, unsent, unanswered, stuck} {
			if s = e.begin(s.t); s == nil {
				return
			}
			s.prepare(op)
			h := &how{}
			e.http.set(kind, n, func() { h.end() })
			err := e.call(s.t.Context(), s.gid, op, h)
			request, ignoresEnd := e.http.clear()
			if request == "" {
				return
			}
			s.step("%s, of which request %d (%s) %s", names[op], n, request, kind.says())
			s.notice(names[op], err)
			if ignoresEnd {
				s.complain("the request goes on, want it to end with the context of the call", onStuck)
			}
			if e.judge(s, op, err, "its request failed"); s.failed {
				return
			}
		}
	}
}

// judge checks a call in which something has failed, and makes the next call of the engine.
func (e effectOrders) judge(s *story, op barrier.Op, err error, failure string) {
	s.t.Helper()
	if s.failed {
		return
	}
	if err == nil {
		if got := s.look(); !equal(got, e.leftBy(op)) {
			s.complain(fmt.Sprintf("%s returned nil although %s, and %s", names[op], failure, differs(got, e.leftBy(op))), onRefusal)
		}
		return
	}
	if op == try {
		s.succeeds(cancel, onNothing)
		s.leavesOneOf(onNothing, e.cancelled, e.before)
		return
	}
	s.succeeds(op, onUnknown)
	s.leaves(e.leftBy(op), onUnknown)
}
