package tcctest

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// Exercise runs a branch through every order of calls, with every case. db is the database
// of the branch, unless the branch is [tcc.Located]. Exercise needs no engine. While it
// runs, nothing else may change the data of Reset and State.
//
// Each order is a subtest and reports at most one problem. If a branch does not return, the
// exercise ends.
func Exercise[P tcc.Payload](t testing.TB, db *gorm.DB, branch tcc.Branch[P], cases ...Case[P]) {
	t.Helper()
	exercise(t, db, func(engine saga.Engine) error { return tcc.Register(engine, branch) }, cases)
}

// ExerciseExternal is Exercise for a branch without a database. db has its barrier rows.
// The test has to be able to reset and read the other side of the branch, for example a
// fake: Reset and State do this.
func ExerciseExternal[P tcc.Payload](t testing.TB, db *gorm.DB, branch tcc.External[P], cases ...Case[P]) {
	t.Helper()
	exercise(t, db, func(engine saga.Engine) error { return tcc.RegisterExternal(engine, branch) }, cases)
}

// ExerciseAction is Exercise for an action of a saga. The operation Try is its Do, and Cancel its
// Compensate. Give [Case.Tried], the state after Do, and [Case.Cancelled] if Compensate leaves
// another state than the one before Do. Leave out Case.Confirmed.
func ExerciseAction[P tcc.Payload, R any](t testing.TB, db *gorm.DB, a action.Action[P, R], cases ...Case[P]) {
	t.Helper()
	exercise(t, db, func(engine saga.Engine) error { return action.Register(engine, a) }, cases)
}

// ExerciseExternalAction is [ExerciseAction] for an action without a database; see
// [ExerciseExternal].
func ExerciseExternalAction[P tcc.Payload, R any](t testing.TB, db *gorm.DB, a action.External[P, R], cases ...Case[P]) {
	t.Helper()
	exercise(t, db, func(engine saga.Engine) error { return action.RegisterExternal(engine, a) }, cases)
}

func exercise[P tcc.Payload](t testing.TB, db *gorm.DB, register func(saga.Engine) error, cases []Case[P]) {
	t.Helper()
	if len(cases) == 0 {
		t.Fatalf("tcctest: there is no case: give Exercise at least one Case")
	}
	var caught catcher
	if err := register(&caught); err != nil {
		t.Fatalf("tcctest: %v", err)
	}
	if caught.branch.Database == nil {
		caught.branch.Database = db
	}
	if err := schema.Check(t.Context(), caught.branch.Database); err != nil {
		t.Fatalf("tcctest: the database of %s: %v", caught.branch.Name, err)
	}
	for _, c := range cases {
		if err := c.check(); err != nil {
			t.Fatalf("%v", err)
		}
		payload, err := caught.branch.Encode(c.Payload)
		if err != nil {
			t.Fatalf("tcctest: the payload of case %s: %v", c.name(), err)
		}
		e := &exerciser{
			engine: engine{branch: caught.branch, payload: payload, limit: cmp.Or(c.Limit, defaultLimit)},
			name:   uuid.NewString()[:8],
			reset:  c.Reset, state: c.State, holds: c.Holds, capacity: c.Capacity,
			wanted: wanted{c.Tried, c.Confirmed, c.Cancelled},
			http:   c.HTTP, breaks: c.Break,
		}
		if e.branch.Action {
			e.wanted.confirmed = e.wanted.tried
		}
		within(t, c.name(), e.all)
		if e.hung.Load() {
			return
		}
	}
}

// within runs part as a subtest, if t can have subtests.
func within(t testing.TB, name string, part func(testing.TB)) {
	t.Helper()
	if whole, ok := t.(*testing.T); ok {
		whole.Run(name, func(t *testing.T) { t.Helper(); part(t) })
		return
	}
	part(t)
}

// catcher is a saga.Engine that only keeps the registered branch.
type catcher struct {
	saga.Engine
	branch kind
}

func (c *catcher) Register(b saga.Branch) error {
	c.branch = kindOf(b)
	return nil
}

// wanted has the states that a case gives; nil for a state that it does not give.
type wanted struct{ tried, confirmed, cancelled any }

// exerciser exercises one branch with one payload.
type exerciser struct {
	engine
	reset    func(context.Context, *gorm.DB) error
	state    func(context.Context, *gorm.DB) (any, error)
	holds    func(context.Context, *gorm.DB) error
	capacity int
	wanted   wanted
	http     *Transport
	breaks   func(context.Context) (func(), error)

	name string // of this run: makes its gids unique
	gids atomic.Int64

	reported map[string]bool // problems
	unshown  []string

	before, tried, confirmed, cancelled any // the states that the others are compared with
}

// external reports whether the branch has no database.
func (e *exerciser) external() bool { return e.branch.Work == nil }

func (e *exerciser) all(t testing.TB) {
	t.Helper()
	if !e.learn(t) {
		return // every order would fail for the same reason
	}
	if e.wanted.tried == nil || e.wanted.confirmed == nil {
		e.notShown("that Try and Confirm change the right columns by the right amounts (give Case.Tried and Case.Confirmed)")
	}
	if e.capacity == 0 {
		e.notShown("that Try rejects when there is too little (give Case.Capacity)")
	}
	defer func() {
		t.Helper()
		if len(e.unshown) > 0 {
			t.Logf("tcctest: not shown of %s: %s", e.branch.Name, e.words(strings.Join(e.unshown, "; ")))
		}
	}()
	for _, o := range e.orders() {
		if e.hung.Load() {
			return
		}
		within(t, e.words(o.name), func(t testing.TB) {
			t.Helper()
			if story := e.begin(t); story != nil {
				o.play(story)
			}
		})
	}
}

// notShown notes a property that the exercise cannot show, and why.
func (e *exerciser) notShown(what string) { e.unshown = append(e.unshown, what) }

// learn plays the orders in which nothing goes wrong, and keeps the states that they leave.
func (e *exerciser) learn(t testing.TB) bool {
	t.Helper()
	s := e.begin(t)
	if s == nil {
		return false
	}
	e.before = s.look()
	s.succeeds(try, "Case.Payload has to be one that Try accepts after Case.Reset")
	e.tried = s.reaches(e.wanted.tried, "Case.Tried")
	s.succeeds(confirm, "Confirm has to accept what Try has reserved")
	e.confirmed = s.reaches(e.wanted.confirmed, "Case.Confirmed")
	if s.failed {
		return false
	}
	if equal(e.before, e.tried) && equal(e.before, e.confirmed) {
		s.complain(fmt.Sprintf("neither Try nor Confirm changes the state, %s, so that nothing can be judged by it", show(e.before)),
			"let Case.State return all that the branch works on")
	} else if equal(e.before, e.confirmed) && e.wanted.confirmed == nil {
		s.complain(fmt.Sprintf("the state is %s again, as before Try", show(e.before)),
			"let Confirm use what Try has reserved, or state this as Case.Confirmed if it is right")
	}
	if s.failed {
		return false
	}
	if s = e.begin(t); s == nil {
		return false
	}
	s.succeeds(try, "a Try after Case.Reset has to succeed each time")
	s.succeeds(cancel, "Cancel has to accept what Try has reserved")
	e.cancelled = e.before
	if e.wanted.cancelled != nil {
		e.cancelled = s.reaches(e.wanted.cancelled, "Case.Cancelled")
	} else {
		s.leaves(e.before, "let Cancel give back exactly what Try has reserved, or state what it leaves as Case.Cancelled if that is right")
	}
	return !s.failed
}
