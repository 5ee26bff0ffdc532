package tcctest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

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
	if e.hung.Load() {
		return nil // it may hold locks
	}
	if err := e.reset(t.Context(), e.branch.Database); err != nil {
		t.Errorf("tcctest: Case.Reset: %v", err)
		return nil
	}
	s := &story{t: t, e: e}
	s.another()
	return s
}

// another goes on with a new transaction.
func (s *story) another() string {
	s.gid = fmt.Sprintf("tcctest-%s-%d", s.e.run, s.e.gids.Add(1))
	return s.gid
}

// complain says what is wrong after the steps so far, and what to do about it.
// What goes wrong later in the same order follows from it, and is not told.
func (s *story) complain(problem, advice string) {
	s.t.Helper()
	if s.failed {
		return
	}
	s.failed = true
	if s.e.external() && (advice == onRepeat || advice == onCrash || advice == atOnce) {
		advice = onKey
	}
	if !s.e.firstTold(problem + advice) {
		s.t.Logf("%s, after %s: the same again", s.e.branch.Name, s.told())
		return
	}
	s.t.Errorf("%s, after %s: %s: %s", s.e.branch.Name, s.told(), problem, advice)
}

// firstTold reports whether a complaint is told for the first time.
func (e *exerciser) firstTold(complaint string) bool {
	if e.told == nil {
		e.told = map[string]bool{}
	}
	first := !e.told[complaint]
	e.told[complaint] = true
	return first
}

func (s *story) told() string {
	if len(s.steps) == 0 {
		return "Case.Reset"
	}
	return strings.Join(s.steps, ", ")
}

func (s *story) step(format string, arguments ...any) {
	s.steps = append(s.steps, fmt.Sprintf(format, arguments...))
}

var names = map[barrier.Op]string{try: "Try", confirm: "Confirm", cancel: "Cancel"}

// make makes a call, which the story tells as said.
func (s *story) make(op barrier.Op, said string, h *how) error {
	s.t.Helper()
	if s.e.hung.Load() {
		return errHangs
	}
	s.step("%s", said)
	err := s.e.call(s.t.Context(), s.gid, op, h)
	s.notice(names[op], err)
	s.hold("return an error where Case.Holds would be broken, so that all is rolled back")
	return err
}

// notice complains of failures that no order provides for.
func (s *story) notice(name string, err error) {
	s.t.Helper()
	var p *panicked
	switch {
	case errors.Is(err, errHangs):
		s.complain(fmt.Sprintf("%s has not returned %v after its context had ended, and the exercise is over", name, min(s.e.limit, grace)),
			"hand the ctx on to all that waits, and return when it ends")
	case errors.Is(err, errOwnEnd):
		s.complain(name+" commits or rolls back its tx", "leave that to the framework, and return an error to roll back")
	case errors.As(err, &p):
		s.complain(fmt.Sprintf("%s panicked at %s: %v", name, p.where, p.value), p.advice())
	}
}

func (s *story) hold(advice string) {
	s.t.Helper()
	if s.e.holds == nil || s.failed {
		return
	}
	if err := s.e.holds(s.t.Context(), s.e.branch.Database); err != nil {
		s.complain(fmt.Sprintf("what must hold does not: %v", err), advice)
	}
}

// succeeds makes a call that has to succeed.
func (s *story) succeeds(op barrier.Op, advice string) {
	s.t.Helper()
	if err := s.make(op, names[op], &how{}); err != nil {
		s.complain(fmt.Sprintf("%s failed: %v", names[op], err), advice)
	}
}

// refused makes a Try that comes too late.
func (s *story) refused() {
	s.t.Helper()
	if err := s.make(try, "Try", &how{}); !errors.Is(err, barrier.ErrSuspended) {
		s.complain(fmt.Sprintf("the late Try was not refused: %v", err), onRepeat)
	}
}

// breaks makes a call that goes wrong on its way, and has to fail.
func (s *story) breaks(op barrier.Op, said string, h *how) {
	s.t.Helper()
	if err := s.make(op, said, h); err == nil {
		s.complain(fmt.Sprintf("%s took effect all the same", names[op]), onCrash)
	}
}

func (s *story) look() any {
	s.t.Helper()
	state, err := s.e.state(s.t.Context(), s.e.branch.Database)
	if err != nil {
		s.complain(fmt.Sprintf("Case.State failed: %v", err), "let it read the state at any time")
	}
	return state
}

// leaves compares the state with what it has to be.
func (s *story) leaves(want any, advice string) {
	s.t.Helper()
	if s.failed {
		return
	}
	if got := s.look(); !equal(got, want) {
		s.complain(differs(got, want), advice)
	}
}

// leavesOneOf compares the state with those that it may be.
func (s *story) leavesOneOf(advice string, wants ...any) {
	s.t.Helper()
	if s.failed {
		return
	}
	got := s.look()
	for _, want := range wants {
		if equal(got, want) {
			return
		}
	}
	s.complain(differs(got, wants[0]), advice)
}

// reaches compares the state with one of the case's, if it has it, and returns it.
func (s *story) reaches(want any, of string) any {
	s.t.Helper()
	if s.failed {
		return nil
	}
	got := s.look()
	if want != nil && !equal(got, want) {
		s.complain(differs(got, want), fmt.Sprintf("that is not %s: look for a wrong column, amount or condition", of))
	}
	return got
}

// equal reports whether two states are the same.
func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

func show(state any) string { return fmt.Sprintf("%+v", state) }

// differs says how the state is, and how it should be.
func differs(got, want any) string {
	if show(got) != show(want) {
		return fmt.Sprintf("the state is %s, want %s", show(got), show(want))
	}
	return fmt.Sprintf("the state is the %T %#v, want the %T %#v", got, got, want, want)
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
		gid := s.gid
		calls.Go(func() {
			<-ready
			failures[i] = s.e.call(s.t.Context(), gid, op, &how{})
		})
	}
	close(ready)
	calls.Wait()
	s.step("%s at once", strings.Join(said, " and "))
	for i, op := range ops {
		s.notice(names[op], failures[i])
	}
	s.hold(atOnce)
	return failures
}
