package nested_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/nested"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Each order of calls has the result that the barrier has for a branch without a nested
// transaction.
func TestCallsInEachOrder(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		sqltest.Exec(t, s.db, "UPDATE things SET free = 100")
		call := s.stays()
		const ours, theirs = "ours", "theirs"
		type step struct {
			op     barrier.Op
			caller string
			match  error // nil for a success
		}
		for gid, c := range map[string]struct {
			steps []step
			state saga.State
		}{
			"try-again": {[]step{{barrier.Try, ours, nil}, {barrier.Try, ours, nil}}, saga.Trying},
			"confirm":   {[]step{{barrier.Try, ours, nil}, {barrier.Confirm, ours, nil}, {barrier.Confirm, ours, nil}, {barrier.Try, ours, nil}, {barrier.Cancel, ours, barrier.ErrConflict}}, saga.Confirmed},
			"cancel":    {[]step{{barrier.Try, ours, nil}, {barrier.Cancel, ours, nil}, {barrier.Cancel, ours, nil}, {barrier.Try, ours, barrier.ErrSuspended}, {barrier.Confirm, ours, barrier.ErrConflict}}, saga.Cancelled},
			"late":      {[]step{{barrier.Cancel, ours, nil}, {barrier.Try, ours, barrier.ErrSuspended}, {barrier.Cancel, ours, nil}, {barrier.Confirm, ours, barrier.ErrConflict}}, saga.Cancelled},
			"unknown":   {[]step{{barrier.Confirm, ours, barrier.ErrConflict}}, ""},
			"another":   {[]step{{barrier.Try, ours, nil}, {barrier.Try, theirs, saga.ErrMismatch}, {barrier.Try, theirs, barrier.ErrConflict}, {barrier.Confirm, theirs, barrier.ErrConflict}, {barrier.Cancel, theirs, barrier.ErrConflict}}, saga.Trying},
			"another-2": {[]step{{barrier.Try, ours, nil}, {barrier.Confirm, ours, nil}, {barrier.Confirm, theirs, barrier.ErrConflict}}, saga.Confirmed},
			"another-3": {[]step{{barrier.Try, ours, nil}, {barrier.Cancel, ours, nil}, {barrier.Cancel, theirs, barrier.ErrConflict}}, saga.Cancelled},
		} {
			for i, do := range c.steps {
				if err := call(do.op, do.caller, gid); !errors.Is(err, do.match) || do.match == nil && err != nil {
					t.Errorf("%s: call %d, %s of %s: %v, want %v", gid, i+1, do.op, do.caller, err, do.match)
				}
			}
			if c.state == "" {
				_, err := s.engine.Lookup(t.Context(), gid+".01")
				want(t, gid, err, saga.ErrNotFound)
				continue
			}
			if found := s.reaches(gid+".01", c.state); found.Parent != ours+"/"+gid+"/01" || found.Pattern != "nested" {
				t.Errorf("%s is %+v", gid, found.Summary)
			}
		}
		s.has("room", 100-4*2, 2*2, 2*2) // "try-again" and "another" hold, "confirm" and "another-2" use
	})
}

// A child that is not prepared is not confirmed, also if all its branches are tried.
func TestConfirmNeedsAPreparedChild(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		sagatest.Must(t, s.engine.Begin(t.Context(), saga.Opening{GID: "a.01", Parent: "log/a/01"}))
		sagatest.Must(t, s.engine.Try(t.Context(), "a.01", "01", saga.Step{Kind: "room", Input: room{1}}))
		want(t, "Confirm", s.engine.ConfirmNested(t.Context(), "a.01", "log/a/01"), barrier.ErrConflict)
		if found := s.look("a.01"); found.State != saga.Trying {
			t.Errorf("it is %s", found.State)
		}
		sagatest.Must(t, s.engine.Prepare(t.Context(), "a.01", 1))
		sagatest.Must(t, s.engine.ConfirmNested(t.Context(), "a.01", "log/a/01"))
		s.reaches("a.01", saga.Confirmed)
	})
}

// A transaction is prepared only while it is open, with all its branches tried.
func TestPrepareRefuses(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		ctx, e := t.Context(), s.engine
		begin := func(gid, parent string) {
			t.Helper()
			sagatest.Must(t, e.Begin(ctx, saga.Opening{GID: gid, Parent: parent}))
			sagatest.Must(t, e.Try(ctx, gid, "01", saga.Step{Kind: "room", Input: room{1}}))
		}
		want(t, "an unknown one", e.Prepare(ctx, "none", 0), saga.ErrNotFound)
		begin("plain", "")
		want(t, "one that is not nested", e.Prepare(ctx, "plain", 1), saga.ErrInvalid)
		begin("a", "log/a/01")
		want(t, "with a branch less", e.Prepare(ctx, "a", 2), saga.ErrMismatch)
		want(t, "with a branch more", e.Prepare(ctx, "a", 0), saga.ErrMismatch)
		if err := e.Try(ctx, "a", "02", saga.Step{Kind: "stay", Input: stay{20, 1}}); err == nil {
			t.Error("the stay was tried")
		}
		want(t, "with a failed branch", e.Prepare(ctx, "a", 2), saga.ErrNotTried)
		if found := s.look("a"); !found.PreparedAt.IsZero() || found.Epoch != 1 {
			t.Errorf("it is %+v", found.Summary)
		}
		begin("late", "log/late/01")
		s.pass("late")
		want(t, "past the deadline", e.Prepare(ctx, "late", 1), saga.ErrNotOpen)
		s.reaches("late", saga.Cancelled)
		want(t, "a cancelled one", e.Prepare(ctx, "late", 1), saga.ErrCancelled)
	})
}

// A Begin names what is wrong with the parent.
func TestBeginRefusesAParent(t *testing.T) {
	t.Parallel()
	s := newSite(t, sqltest.Open(t, "sqlite"), quick)
	for says, opening := range map[string]saga.Opening{
		"256 characters, 255":     {Parent: strings.Repeat("p", 256)},
		"not printable ASCII":     {Parent: "a b"},
		"must be empty for a nes": {Parent: "a/b/c", Pattern: "tcc"},
	} {
		opening.GID = "a"
		if err := s.engine.Begin(t.Context(), opening); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	sagatest.Must(t, s.engine.Begin(t.Context(), saga.Opening{GID: "a", Parent: strings.Repeat("p", 255)}))
	want(t, "without its parent", s.engine.Begin(t.Context(), saga.Opening{GID: "a", Pattern: "nested"}), saga.ErrMismatch)
	want(t, "without a parent", s.engine.CancelNested(t.Context(), "b", ""), saga.ErrInvalid)
}

// A scope of the parent's engine does not reach the child.
func TestWithinAScope(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		scoped := s.engine.Within("api")
		sagatest.Must(t, scoped.Begin(t.Context(), saga.Opening{GID: "a"}))
		sagatest.Must(t, scoped.Try(t.Context(), "a", "01", saga.Step{Kind: "stay", Input: stay{1, 1}}))
		_, err := scoped.Confirm(t.Context(), "a.01", saga.Options{})
		want(t, "the child, within the scope", err, saga.ErrNotFound)
		_, err = scoped.Confirm(t.Context(), "a", saga.Options{})
		sagatest.Must(t, err)
		if found := s.reaches("a", saga.Confirmed); found.Failures != 0 {
			t.Errorf("a Confirm failed: %+v", found.Branches)
		}
		s.reaches("a.01", saga.Confirmed)
		want(t, "a nested one, within the scope", scoped.Begin(t.Context(), saga.Opening{GID: "b", Parent: "a/b/c"}), saga.ErrInvalid)
	})
}

// A Plan that returns something else when the Try is repeated fails the Try.
func TestAPlanThatChanges(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		for name, again := range map[string][]tcc.Payload{
			"less":    {room{1}},
			"more":    {room{1}, meal{1}, meal{1}},
			"another": {room{1}, meal{2}},
			"nil":     {room{1}, nil},
		} {
			plans := [][]tcc.Payload{{room{1}, meal{1}}, again}
			var c caught
			sagatest.Must(t, nested.Register(&c, nested.Branch[stay]{Child: s.engine, Plan: func(context.Context, stay) ([]tcc.Payload, error) {
				plan := plans[0]
				plans = plans[1:]
				return plan, nil
			}}))
			call := saga.Call{GID: name, BranchID: "01", Kind: "stay", Op: barrier.Try, Caller: "ours", Payload: []byte(`{"Rooms":1,"Meals":1}`)}
			sagatest.Must(t, c.Shape().(saga.Remote).Call(t.Context(), call))
			if err := c.Shape().(saga.Remote).Call(t.Context(), call); err == nil {
				t.Errorf("%s: the Try succeeded", name)
			}
			if found := s.look(name + ".01"); len(found.Branches) != 2 || found.State != saga.Trying {
				t.Errorf("%s: it is %+v", name, found)
			}
		}
	})
}

// Trys and a Cancel of one branch arrive at the same time: if the Cancel is first, nothing is
// reserved, and otherwise it is given back.
func TestTrysAndACancelAtTheSameTime(t *testing.T) {
	each(t, quick, func(t *testing.T, s *site) {
		call := s.stays()
		for range 5 {
			gid := sagatest.GID()
			var calls sync.WaitGroup
			for _, op := range []barrier.Op{barrier.Try, barrier.Try, barrier.Cancel} {
				calls.Go(func() {
					if err := call(op, "ours", gid); err != nil && (op == barrier.Cancel || !errors.Is(err, barrier.ErrSuspended)) {
						t.Errorf("%s: %v", op, err)
					}
				})
			}
			calls.Wait()
			s.reaches(gid+".01", saga.Cancelled)
		}
		s.has("room", 10, 0, 0)
		s.has("meal", 10, 0, 0)
	})
}
