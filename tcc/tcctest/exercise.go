package tcctest

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	sagasql "github.com/tccsaga/tccsaga/sql"
	"github.com/tccsaga/tccsaga/tcc"
)

// Exercise runs a branch through every order, with every case. Db is the
// engine's own database, in which a branch works that says nothing else; no
// orchestrator is needed.
func Exercise[P tcc.Payload](t testing.TB, db *gorm.DB, branch tcc.Branch[P], cases ...Case[P]) {
	t.Helper()
	exercise(t, db, func(engine saga.Engine) error { return tcc.Register(engine, branch) }, cases)
}

// ExerciseExternal is Exercise for a branch without a database of its own. Db
// holds its barrier rows. The branch's other side is one that a test can look
// at, a fake of it, say; Reset and State are about that.
func ExerciseExternal[P tcc.Payload](t testing.TB, db *gorm.DB, branch tcc.External[P], cases ...Case[P]) {
	t.Helper()
	exercise(t, db, func(engine saga.Engine) error { return tcc.RegisterExternal(engine, branch) }, cases)
}

func exercise[P tcc.Payload](t testing.TB, db *gorm.DB, register func(saga.Engine) error, cases []Case[P]) {
	t.Helper()
	if len(cases) == 0 {
		t.Fatalf("tcctest: there is no case to exercise the branch with")
	}
	var caught catcher
	if err := register(&caught); err != nil {
		t.Fatalf("tcctest: %v", err)
	}
	if caught.branch.Database == nil {
		caught.branch.Database = db
	}
	if err := sagasql.Check(t.Context(), caught.branch.Database); err != nil {
		t.Fatalf("tcctest: the database of %s: %v", caught.branch.Kind, err)
	}
	for _, c := range cases {
		if err := c.check(); err != nil {
			t.Fatalf("%v", err)
		}
		payload, err := caught.branch.Encode(c.Payload)
		if err != nil {
			t.Fatalf("tcctest: the payload of case %s: %v", c.name(), err)
		}
		e := &exerciser{branch: caught.branch, payload: payload, reset: c.Reset, state: c.State, holds: c.Holds, capacity: c.Capacity,
			run: uuid.NewString()[:8]}
		within(t, c.name(), e.all)
	}
}

// within runs part as a subtest where there are such.
func within(t testing.TB, name string, part func(testing.TB)) {
	t.Helper()
	if whole, ok := t.(*testing.T); ok {
		whole.Run(name, func(t *testing.T) { part(t) })
		return
	}
	part(t)
}

// catcher is an engine that only catches the branch that is registered.
type catcher struct {
	saga.Engine
	branch saga.Branch
}

func (c *catcher) Register(b saga.Branch) error {
	c.branch = b
	return nil
}

// exerciser exercises one branch with one payload.
type exerciser struct {
	branch   saga.Branch
	payload  []byte
	reset    func(context.Context, *gorm.DB) error
	state    func(context.Context, *gorm.DB) (any, error)
	holds    func(context.Context, *gorm.DB) error
	capacity int
	run      string // tells the gids of this run from others
	gids     atomic.Int64

	before, tried, confirmed any // the states that the others are compared with
}

// external reports whether the branch has no database of its own.
func (e *exerciser) external() bool { return e.branch.Inside == nil }

func (e *exerciser) all(t testing.TB) {
	t.Helper()
	if !e.learn(t) {
		return // every order would fail for the same reason
	}
	for _, o := range e.orders() {
		within(t, o.name, func(t testing.TB) {
			t.Helper()
			story := e.begin(t)
			if story == nil {
				return
			}
			o.play(story)
		})
	}
}

// learn plays the orders that go well, and keeps what they leave.
func (e *exerciser) learn(t testing.TB) bool {
	t.Helper()
	s := e.begin(t)
	if s == nil {
		return false
	}
	e.before = s.look()
	s.succeeds(try)
	e.tried = s.look()
	s.succeeds(confirm)
	e.confirmed = s.look()
	if s.failed {
		return false
	}
	if reflect.DeepEqual(e.before, e.tried) && reflect.DeepEqual(e.before, e.confirmed) {
		s.complain("neither Try nor Confirm changes what State returns, %s, so that nothing can be judged by it: let State return all that the branch works on", show(e.before))
		return false
	}
	if s = e.begin(t); s == nil {
		return false
	}
	s.succeeds(try)
	s.succeeds(cancel)
	s.leaves(e.before, "Cancel has to give back exactly what Try has reserved")
	return !s.failed
}

func show(state any) string { return fmt.Sprintf("%+v", state) }
