package tcctest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// order is one dangerous order of calls.
type order struct {
	name string
	play func(*story)
}

// Advice about problems.
const (
	onTry      = "a call that succeeded after Case.Reset has to succeed each time"
	onRepeat   = "do all work with the tx that the method is given, and use the key of the call for every other effect, so that a repeated call changes nothing"
	onNothing  = "let Cancel give back all that is there under the key of the call, also after a Try that failed, and nothing else"
	onCrash    = "do all work with the tx that the method is given, and keep nothing in memory, so that what a crash interrupts is undone"
	onKey      = "let a repeated call change nothing: give the other side the key of the call, tcc.CallOf(ctx).Key(), as its idempotency key"
	atOnce     = "do all work with the tx that the method is given, and check and change in one statement"
	onOversell = "check and change in one statement, UPDATE ... SET free = free - n WHERE free >= n, and reject if no row is affected"
)

// ops returns the operations of the branch.
func (e *exerciser) ops() []barrier.Op {
	if e.branch.Action {
		return []barrier.Op{try, cancel}
	}
	return []barrier.Op{try, confirm, cancel}
}

var (
	tryWord    = regexp.MustCompile(`\bTry(s?)\b`)
	cancelWord = regexp.MustCompile(`\bCancel(s?)\b`)
)

// words returns a text with the names that the operations have in the branch.
func (e *exerciser) words(text string) string {
	if !e.branch.Action {
		return text
	}
	return cancelWord.ReplaceAllString(tryWord.ReplaceAllString(text, "Do$1"), "Compensate$1")
}

func (e *exerciser) orders() []order {
	all := e.plainOrders()
	if !e.external() {
		all = append(all, e.localOrders()...)
		all = append(all, statementOrders{e}.list()...)
		all = append(all, pairOrders{e}.list()...)
	}
	all = append(all, effectOrders{e}.list()...)
	all = append(all, raceOrders{e}.list()...)
	if e.branch.WorkBatch != nil {
		all = append(all, batchOrders{e}.list()...)
	}
	if e.branch.Action { // its Confirm does nothing
		all = slices.DeleteFunc(all, func(o order) bool { return strings.Contains(o.name, "Confirm") })
	}
	return all
}

// plainOrders make one call after the other.
func (e *exerciser) plainOrders() []order {
	all := []order{
		{"Try, Confirm, Confirm", func(s *story) {
			s.t.Helper()
			s.succeeds(try, onTry)
			s.succeeds(confirm, onTry)
			s.succeeds(confirm, onRepeat)
			s.leaves(e.confirmed, onRepeat)
		}},
		{"Try, Cancel, Cancel", func(s *story) {
			s.t.Helper()
			s.succeeds(try, onTry)
			s.succeeds(cancel, onTry)
			s.succeeds(cancel, onRepeat)
			s.leaves(e.cancelled, onRepeat)
		}},
		{"Cancel", func(s *story) {
			s.t.Helper()
			s.succeeds(cancel, onNothing)
			s.leaves(e.before, onNothing)
		}},
		{"Cancel, Try, Cancel", func(s *story) {
			s.t.Helper()
			s.succeeds(cancel, onNothing)
			s.refused()
			s.leaves(e.before, onNothing)
			s.succeeds(cancel, onNothing)
			s.leaves(e.before, onNothing)
		}},
		{"Try, Cancel, Try", func(s *story) {
			s.t.Helper()
			s.succeeds(try, onTry)
			s.succeeds(cancel, onTry)
			s.refused()
			s.leaves(e.cancelled, onRepeat)
		}},
	}
	if !e.external() {
		all = append(all, order{"Try, Try", func(s *story) {
			s.t.Helper()
			s.succeeds(try, onTry)
			s.succeeds(try, onRepeat)
			s.leaves(e.tried, onRepeat)
		}})
	}
	return all
}

// leftBy is the state that an operation has to leave. Before a Confirm or Cancel there was
// a Try.
func (e *exerciser) leftBy(op barrier.Op) any {
	return map[barrier.Op]any{try: e.tried, confirm: e.confirmed, cancel: e.cancelled}[op]
}

// localOrders test local transactions.
func (e *exerciser) localOrders() (all []order) {
	for _, op := range e.ops() {
		name := names[op]
		all = append(all,
			order{"a crash in " + name, func(s *story) {
				s.t.Helper()
				before := s.prepare(op)
				s.breaks(op, name+", and a crash before its commit", &how{crash: true})
				if e.branch.Effects[op] == nil {
					s.leaves(before, onCrash)
				}
				s.succeeds(op, onCrash)
				s.leaves(e.leftBy(op), onCrash)
			}},
			order{"a deadlock in " + name, func(s *story) {
				s.t.Helper()
				s.prepare(op)
				if err := s.make(op, name+", rolled back because of a deadlock and run again", &how{rerun: true}); err != nil {
					s.complain(fmt.Sprintf("%s failed: %v", name, err), onCrash)
				}
				s.leaves(e.leftBy(op), onCrash)
			}},
		)
	}
	return append(all, order{"nothing but tx", e.onlyTx})
}

// watchRounds is how often a branch is watched while it works.
const watchRounds = 15

// onlyTx checks that the branch uses only its tx during its local transactions. One round
// sees every long call and most short calls, so there are many rounds.
func (e *exerciser) onlyTx(s *story) {
	s.t.Helper()
	for round := range watchRounds {
		for _, op := range []barrier.Op{confirm, cancel} {
			if s = e.begin(s.t); s == nil {
				return
			}
			for _, op := range []barrier.Op{try, op} {
				if err := s.make(op, names[op], &how{watched: true}); err != nil {
					s.complain(fmt.Sprintf("%s failed: %v", names[op], err), onTry)
				}
			}
		}
		if e.branch.WorkBatch != nil && round < watchRounds/2 {
			s = batchOrders{e}.watched(s)
		}
		if s == nil || s.failed {
			return
		}
	}
	for _, calls := range [][]string{{"Try"}, {"Try", "Confirm"}, {"Try", "Cancel"}, {"TryAll"}, {"TryAll", "ConfirmAll"}} {
		name := calls[len(calls)-1]
		for _, seen := range e.sights.of(name) {
			reported := &story{t: s.t, e: e, steps: calls}
			reported.complainOf(name, seen)
		}
	}
}

// nothing returns the states that Cancel may leave if want is right. An external Cancel may
// note that it was called, also if there was nothing to give back.
func (e *exerciser) nothing(want any) []any {
	if e.external() {
		return []any{want, e.cancelled}
	}
	return []any{want}
}
