package tcctest

import (
	"errors"
	"fmt"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// order is one dangerous order of calls.
type order struct {
	name string
	play func(*story)
}

// Advice on what breaks.
const (
	onRepeat   = "A repeated call has to change nothing: do all work with the tx that the method is given, and act elsewhere only with the key of the call"
	onNothing  = "There was nothing to give back: do all work with the tx that the method is given, and give back elsewhere only what is there under the key of the call"
	onCrash    = "What was done before the crash has to be undone or done only once: do all work with the tx that the method is given, and keep nothing in memory"
	onLost     = "A statement failed: return its error, so that all is rolled back"
	atOnce     = "Do all work with the tx that the method is given, and check and change in one statement"
	onOversell = "More was reserved than there is: check and change in one statement, UPDATE ... SET free = free - n WHERE free >= n, and look at the affected rows"
)

// rounds is how often calls that meet are repeated: they do not meet each time.
const rounds = 20

func (e *exerciser) orders() []order {
	all := []order{
		{"Try, Confirm, Confirm", func(s *story) {
			s.succeeds(try)
			s.succeeds(confirm)
			s.succeeds(confirm)
			s.leaves(e.confirmed, onRepeat)
		}},
		{"Try, Cancel, Cancel", func(s *story) {
			s.succeeds(try)
			s.succeeds(cancel)
			s.succeeds(cancel)
			s.leaves(e.before, onRepeat)
		}},
		{"Cancel", func(s *story) {
			s.succeeds(cancel)
			s.leaves(e.before, onNothing)
		}},
		{"Cancel, Try, Cancel", func(s *story) {
			s.succeeds(cancel)
			s.refused()
			s.leaves(e.before, onNothing)
			s.succeeds(cancel)
			s.leaves(e.before, onNothing)
		}},
		{"Try, Cancel, Try", func(s *story) {
			s.succeeds(try)
			s.succeeds(cancel)
			s.refused()
			s.leaves(e.before, onRepeat)
		}},
		{"Try and Cancel at once", func(s *story) { e.meet(s, try, cancel) }},
		{"two Confirms at once", func(s *story) { e.twice(s, confirm, e.confirmed) }},
		{"two Cancels at once", func(s *story) { e.twice(s, cancel, e.before) }},
	}
	if e.external() {
		all = append(all, e.externalOrders()...)
	} else {
		all = append(all, e.localOrders()...)
	}
	if e.branch.Outside[confirm] != nil {
		all = append(all, order{"the reply of Confirm is lost", func(s *story) {
			s.succeeds(try)
			s.breaks(confirm, "Confirm, of which the reply is lost", &how{crash: true})
			s.succeeds(confirm)
			s.leaves(e.confirmed, onRepeat)
		}})
	}
	if e.branch.Together != nil {
		all = append(all, e.bulkOrders()...)
	}
	if e.capacity > 0 {
		all = append(all, order{"more want it than there is", e.oversell})
	}
	return all
}

// localOrders are about local transactions.
func (e *exerciser) localOrders() []order {
	all := []order{
		{"Try, Try", func(s *story) {
			s.succeeds(try)
			s.succeeds(try)
			s.leaves(e.tried, onRepeat)
		}},
		{"two Trys at once", func(s *story) {
			for range rounds {
				if s = e.begin(s.t); s == nil {
					return
				}
				for _, err := range s.together(try, try) {
					if err != nil {
						s.complain("a Try failed: %v", err)
					}
				}
				if s.leaves(e.tried, atOnce); s.failed {
					return
				}
			}
		}},
	}
	for _, op := range []barrier.Op{try, confirm, cancel} {
		want, name := map[barrier.Op]any{try: e.tried, confirm: e.confirmed, cancel: e.before}[op], names[op]
		prepare := func(s *story) (before any) {
			if op != try {
				s.succeeds(try)
			}
			return s.look()
		}
		all = append(all,
			order{"a crash in " + name, func(s *story) {
				before := prepare(s)
				s.breaks(op, name+", and a crash before its commit", &how{crash: true})
				if e.branch.Outside[op] == nil {
					s.leaves(before, onCrash)
				}
				s.succeeds(op)
				s.leaves(want, onCrash)
			}},
			order{"a deadlock in " + name, func(s *story) {
				prepare(s)
				if err := s.make(op, name+", rolled back because of a deadlock and run again", &how{rerun: true}); err != nil {
					s.complain("%s failed: %v", name, err)
				}
				s.leaves(want, onCrash)
			}},
			order{"a lost connection in " + name, func(s *story) { e.lose(s, op, want, prepare) }},
		)
	}
	return all
}

// lose lets each statement of an operation fail in turn.
func (e *exerciser) lose(s *story, op barrier.Op, want any, prepare func(*story) any) {
	for n := 1; ; n++ {
		if n > 1 {
			if s = e.begin(s.t); s == nil {
				return
			}
		}
		before := prepare(s)
		h := &how{statement: n}
		err := s.make(op, fmt.Sprintf("%s, of which statement %d fails", names[op], n), h)
		switch {
		case h.statements < n: // there are not so many
			if err != nil {
				s.complain("%s failed: %v", names[op], err)
			}
			return
		case err == nil:
			s.complain("%s says that it succeeded. %s", names[op], onLost)
			return
		}
		if e.branch.Outside[op] == nil {
			s.leaves(before, onLost)
		}
		s.succeeds(op)
		if s.leaves(want, onLost); s.failed {
			return
		}
	}
}

// externalOrders are about calls whose replies are lost.
func (e *exerciser) externalOrders() []order {
	return []order{
		{"Try marked and never sent, Cancel", func(s *story) {
			s.breaks(try, "Try, marked and never sent because of a crash", &how{unsent: true})
			s.leaves(e.before, onNothing)
			s.succeeds(cancel)
			s.leaves(e.before, onNothing)
			s.succeeds(cancel)
			s.leaves(e.before, onNothing)
		}},
		{"the reply of Cancel is lost", func(s *story) {
			s.succeeds(try)
			s.breaks(cancel, "Cancel, of which the reply is lost", &how{crash: true})
			s.succeeds(cancel)
			s.leaves(e.before, onRepeat)
		}},
	}
}

// meet lets Try and Cancel of a transaction meet. An external Try may be under
// way when Cancel comes; the orchestrator cancels again only if that failed.
func (e *exerciser) meet(s *story, first, second barrier.Op) {
	for range rounds {
		if s = e.begin(s.t); s == nil {
			return
		}
		failures := s.together(first, second)
		if failures[1] != nil {
			s.complain("%s failed: %v", names[second], failures[1])
		}
		if e.external() && failures[0] == nil {
			// The call may have arrived after Cancel: nothing in a database can
			// tell. A context that ends has to end it; that cannot be shown here.
			continue
		}
		if failures[0] != nil && !e.external() && !errors.Is(failures[0], barrier.ErrSuspended) {
			s.complain("%s failed: %v", names[first], failures[0])
		}
		if s.leaves(e.before, atOnce); s.failed {
			return
		}
	}
}

// twice lets two of the same call meet.
func (e *exerciser) twice(s *story, op barrier.Op, want any) {
	for range rounds {
		if s = e.begin(s.t); s == nil {
			return
		}
		s.succeeds(try)
		for _, err := range s.together(op, op) {
			if err != nil {
				s.complain("a %s failed: %v", names[op], err)
			}
		}
		if s.leaves(want, atOnce); s.failed {
			return
		}
	}
}

// oversell lets more transactions try than there is for.
func (e *exerciser) oversell(s *story) {
	gids := s.manyTry(2*e.capacity + 4)
	if len(gids) > e.capacity {
		s.complain("%d Trys succeeded, and Case.Capacity is %d. %s", len(gids), e.capacity, onOversell)
	} else if len(gids) < e.capacity {
		s.complain("%d Trys succeeded, and Case.Capacity is %d: fewer than there is for", len(gids), e.capacity)
	}
	for _, gid := range gids {
		s.gid = gid
		if err := e.call(s.t.Context(), gid, cancel, &how{}); err != nil {
			s.complain("a Cancel failed: %v", err)
		}
	}
	s.steps = append(s.steps, "Cancel of those that succeeded")
	s.hold()
	s.leaves(e.before, atOnce)
}
