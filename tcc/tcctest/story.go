package tcctest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// story is one order of calls, while it is played.
type story struct {
	t      testing.TB
	e      *exerciser
	gid    string
	steps  []string
	failed bool
}

// begin resets what the branch works on; nil if that fails.
func (e *exerciser) begin(t testing.TB) *story {
	t.Helper()
	if err := e.reset(t.Context(), e.branch.Database); err != nil {
		t.Errorf("tcctest: Case.Reset: %v", err)
		return nil
	}
	s := &story{t: t, e: e}
	s.another()
	return s
}

// another goes on with a new transaction.
func (s *story) another() { s.gid = fmt.Sprintf("tcctest-%s-%d", s.e.run, s.e.gids.Add(1)) }

func (s *story) complain(format string, arguments ...any) {
	s.t.Helper()
	s.failed = true
	s.t.Errorf("%s, after %s: %s", s.e.branch.Kind, s.told(), fmt.Sprintf(format, arguments...))
}

func (s *story) told() string {
	if len(s.steps) == 0 {
		return "nothing"
	}
	return strings.Join(s.steps, ", ")
}

var names = map[barrier.Op]string{try: "Try", confirm: "Confirm", cancel: "Cancel"}

// make makes a call, which the story tells as said.
func (s *story) make(op barrier.Op, said string, h *how) error {
	s.t.Helper()
	s.steps = append(s.steps, said)
	err := s.e.call(s.t.Context(), s.gid, op, h)
	s.hold()
	return err
}

func (s *story) hold() {
	s.t.Helper()
	if s.e.holds == nil {
		return
	}
	if err := s.e.holds(s.t.Context(), s.e.branch.Database); err != nil {
		s.complain("what must hold does not: %v", err)
	}
}

// succeeds makes a call that has to succeed.
func (s *story) succeeds(op barrier.Op) {
	s.t.Helper()
	if err := s.make(op, names[op], &how{}); err != nil {
		s.complain("%s failed: %v", names[op], err)
	}
}

// refused makes a Try that comes too late.
func (s *story) refused() {
	s.t.Helper()
	if err := s.make(try, "Try", &how{}); !errors.Is(err, barrier.ErrSuspended) {
		s.complain("the late Try was not refused: %v", err)
	}
}

// breaks makes a call that goes wrong on its way, and has to fail.
func (s *story) breaks(op barrier.Op, said string, h *how) {
	s.t.Helper()
	if err := s.make(op, said, h); err == nil {
		s.complain("%s says that it succeeded", names[op])
	}
}

func (s *story) look() any {
	s.t.Helper()
	state, err := s.e.state(s.t.Context(), s.e.branch.Database)
	if err != nil {
		s.complain("Case.State: %v", err)
	}
	return state
}

// leaves compares the state with what it has to be.
func (s *story) leaves(want any, advice string) {
	s.t.Helper()
	if got := s.look(); !reflect.DeepEqual(got, want) {
		s.complain("the state is %s, want %s. %s", show(got), show(want), advice)
	}
}

// together makes calls of the same transaction at the same time.
func (s *story) together(ops ...barrier.Op) []error {
	s.t.Helper()
	said := make([]string, len(ops))
	failures := make([]error, len(ops))
	ready := make(chan struct{})
	var calls sync.WaitGroup
	for i, op := range ops {
		said[i] = names[op]
		calls.Go(func() {
			<-ready
			failures[i] = s.e.call(s.t.Context(), s.gid, op, &how{})
		})
	}
	close(ready)
	calls.Wait()
	s.steps = append(s.steps, strings.Join(said, " and ")+" at once")
	s.hold()
	return failures
}

// manyTry tries in many transactions at the same time and returns the gids of
// those that succeeded.
func (s *story) manyTry(n int) (gids []string) {
	s.t.Helper()
	var mu sync.Mutex
	var calls sync.WaitGroup
	ready := make(chan struct{})
	for range n {
		s.another()
		gid := s.gid
		calls.Go(func() {
			<-ready
			err := s.e.call(context.WithoutCancel(s.t.Context()), gid, try, &how{})
			mu.Lock()
			defer mu.Unlock()
			var no *saga.Rejection
			switch {
			case err == nil:
				gids = append(gids, gid)
			case !errors.As(err, &no):
				s.complain("a Try of many failed, and did not reject: %v", err)
			}
		})
	}
	close(ready)
	calls.Wait()
	s.steps = append(s.steps, fmt.Sprintf("Try of %d transactions at once", n))
	s.hold()
	return gids
}
