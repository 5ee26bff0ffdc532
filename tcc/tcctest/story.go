package tcctest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// story plays one order of calls and reports its problem.
type story struct {
	t      testing.TB
	e      *exerciser
	gid    string
	steps  []string
	failed bool
}

// begin resets the data of the branch and returns a story, or nil if that fails.
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

// another continues with a new transaction, and returns its gid.
func (s *story) another() string {
	s.gid = fmt.Sprintf("tcctest-%s-%d", s.e.name, s.e.gids.Add(1))
	return s.gid
}

// complain reports a problem after the steps so far, with advice. Later problems in the same
// order follow from the first one, and are not reported.
func (s *story) complain(problem, advice string) {
	s.t.Helper()
	if s.failed {
		return
	}
	s.failed = true
	if s.e.external() && (advice == onRepeat || advice == onCrash || advice == atOnce) {
		advice = onKey
	}
	if !s.e.firstReport(problem + advice) {
		s.t.Logf("%s, after %s: the same again", s.e.branch.Name, s.e.words(s.calls()))
		return
	}
	s.t.Errorf("%s, after %s", s.e.branch.Name, s.e.words(fmt.Sprintf("%s: %s: %s", s.calls(), problem, advice)))
}

// firstReport returns whether a problem is reported for the first time.
func (e *exerciser) firstReport(complaint string) bool {
	if e.reported == nil {
		e.reported = map[string]bool{}
	}
	first := !e.reported[complaint]
	e.reported[complaint] = true
	return first
}

func (s *story) calls() string {
	if len(s.steps) == 0 {
		return "Case.Reset"
	}
	return strings.Join(s.steps, ", ")
}

func (s *story) step(format string, arguments ...any) {
	s.steps = append(s.steps, fmt.Sprintf(format, arguments...))
}

var names = map[barrier.Op]string{try: "Try", confirm: "Confirm", cancel: "Cancel"}

// make makes a call, which is reported as said.
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

// notice reports failures that are a problem in every order.
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

// refused makes a late Try, which has to be refused.
func (s *story) refused() {
	s.t.Helper()
	if err := s.make(try, "Try", &how{}); !errors.Is(err, barrier.ErrSuspended) {
		s.complain(fmt.Sprintf("the late Try was not refused: %v", err), onRepeat)
	}
}

// breaks makes a call with a fault, which has to fail.
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

// leaves compares the state with the wanted one.
func (s *story) leaves(want any, advice string) {
	s.t.Helper()
	if s.failed {
		return
	}
	if got := s.look(); !equal(got, want) {
		s.complain(differs(got, want), advice)
	}
}

// leavesOneOf compares the state with the allowed ones.
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

// reaches returns the state, and compares it with the wanted state of the case if there is
// one.
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

// differs describes the state and the wanted state.
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

// prepare makes the calls before an operation, and returns the state.
func (s *story) prepare(op barrier.Op) any {
	s.t.Helper()
	if op != try {
		s.succeeds(try, onTry)
	}
	return s.look()
}

// complainOf reports what a branch does without its tx.
func (s *story) complainOf(name string, seen sight) {
	s.t.Helper()
	if seen.network {
		s.complain(fmt.Sprintf("%s uses the network at %s, within its local transaction", name, seen.place),
			"act there in Deliver, or in a branch for RegisterExternal, because locks are held meanwhile and a rollback does not undo it")
		return
	}
	s.complain(fmt.Sprintf("%s uses another database connection than its tx at %s", name, seen.place),
		"do all work with the tx that it is given, because another connection or a replica sees another state, and is not rolled back")
}

// others returns the gids of n new transactions.
func (s *story) others(n int) []string {
	gids := make([]string, n)
	for i := range gids {
		gids[i] = s.another()
	}
	return gids
}

// tryAll tries the transactions, and returns whether all have succeeded.
func (s *story) tryAll(gids []string) bool {
	for _, gid := range gids {
		if err := s.e.call(s.t.Context(), gid, try, &how{}); err != nil {
			return false
		}
	}
	s.step("Try of %d transactions", len(gids))
	return true
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
