package tcctest

import (
	"errors"
	"fmt"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// rounds is how often concurrent calls are repeated: they do not overlap each time.
const rounds = 20

// raceOrders test calls at the same time.
type raceOrders struct{ *exerciser }

func (e raceOrders) list() []order {
	all := []order{
		{"Try and Cancel at once", e.tryAndCancel},
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

// tryAndCancel makes Try and Cancel of a transaction at the same time. An external Try may
// be under way when Cancel comes; the engine cancels again only if the Try failed.
func (e raceOrders) tryAndCancel(s *story) {
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
			// The call may have arrived after Cancel, and the database cannot show
			// it. The call has to end with its context; this test cannot show that.
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

// twice makes the same call twice at the same time.
func (e raceOrders) twice(s *story, op barrier.Op, want any) {
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
func (e raceOrders) oversell(s *story) {
	s.t.Helper()
	for range e.capacity { // one after the other, to learn the state at the end
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
