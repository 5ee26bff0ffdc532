package action_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A plan whose order makes no sense is refused, and nothing is called.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	step := func(p tcc.Payload, change func(*saga.Step)) saga.Step {
		s := saga.Step{Kind: p.Branch(), Input: p}
		if change != nil {
			change(&s)
		}
		return s
	}
	plain := step(here{"a"}, nil)
	parallel := step(here{"a"}, func(s *saga.Step) { s.Parallel = true })
	after := step(here{"a"}, func(s *saga.Step) { s.AfterDecision = true })
	afterParallel := step(here{"a"}, func(s *saga.Step) { s.AfterDecision, s.Parallel = true, true })
	afterTCC := step(hold{"a"}, func(s *saga.Step) { s.AfterDecision = true })
	decides := step(away{"a"}, func(s *saga.Step) { s.Decides = true })
	for name, c := range map[string]struct {
		steps []saga.Step
		want  string
	}{
		"the first is parallel":               {[]saga.Step{parallel}, "the first step cannot be Parallel"},
		"parallel over the decision":          {[]saga.Step{plain, afterParallel}, "cannot be Parallel with one before it"},
		"a step that is not after":            {[]saga.Step{after, plain}, "it has to be AfterDecision too"},
		"parallel with one after":             {[]saga.Step{after, parallel}, "cannot be Parallel with one before it"},
		"a TCC branch after":                  {[]saga.Step{afterTCC}, "has to be an action"},
		"a TCC branch decides":                {[]saga.Step{step(holdAway{"a"}, func(s *saga.Step) { s.Decides = true })}, "has to be an action"},
		"after and decides":                   {[]saga.Step{step(away{"a"}, func(s *saga.Step) { s.Decides, s.AfterDecision = true, true })}, "cannot be AfterDecision and decide"},
		"decides in a group":                  {[]saga.Step{plain, step(away{"a"}, func(s *saga.Step) { s.Decides, s.Parallel = true, true })}, "cannot be Parallel"},
		"decides here":                        {[]saga.Step{step(here{"a"}, func(s *saga.Step) { s.Decides = true })}, "use LocalWork"},
		"a step between the one that decides": {[]saga.Step{decides, plain}, "only steps that are AfterDecision can follow it"},
	} {
		_, err := b.engine.Execute(t.Context(), saga.Plan{GID: "g", Steps: c.steps})
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "execute g") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, options := range map[string]saga.Options{
		"negative attempts": {TryAttempts: -2},
		"LocalWork":         {TryAttempts: 2, LocalWork: func(context.Context, *gorm.DB) error { return nil }},
	} {
		if _, err := action.NewSaga("g").Step(here{"a"}).ExecuteWith(t.Context(), b.engine, options); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "TryAttempts") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.did("")
}

// The plan says what is wrong with it when it is executed.
func TestWrongSagas(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	var nobody *action.Saga
	var none tcc.Payload
	for want, err := range map[string]func() error{
		"action: execute g: step 2: the payload is nil": func() error {
			_, err := action.NewSaga("g").Step(here{"a"}).Step(none).Execute(t.Context(), b.engine)
			return err
		},
		"action: execute g: step 1: the group is empty": func() error {
			_, err := action.NewSaga("g").Parallel().Step(here{"a"}).Execute(t.Context(), b.engine)
			return err
		},
		"action: execute: the Saga is nil": func() error { _, err := nobody.Execute(t.Context(), b.engine); return err },
		"action: execute g: the engine is nil": func() error {
			_, err := action.NewSaga("g").Step(here{"a"}).Execute(t.Context(), nil)
			return err
		},
		"it needs 1 to 99": func() error { _, err := action.NewSaga("g").Execute(t.Context(), b.engine); return err },
	} {
		if err := err(); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A registration that is not possible says why.
func TestWrongRegistrations(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	for want, err := range map[string]error{
		"action: register the action that takes a action_test.ask: the result": action.RegisterExternal(b.engine, wrongResult{}),
		"action: register act.here: the engine is nil":                         action.Register(nil, local[here]{}),
		"action: register act.ask: the branch is nil":                          action.RegisterExternal[ask, action.None](b.engine, nil),
		"action: register act.ask: the service is nil":                         action.RegisterRemote[ask](b.engine, nil),
		"action: register remote: AllowUnknownFields belongs":                  action.RegisterRemote(b.engine, b.service, tcc.AllowUnknownFields[ask]()),
		"act.here": action.Register(b.engine, local[here]{}),
	} {
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

type wrongResult struct{}

func (wrongResult) Do(context.Context, ask) (func(), error)        { return nil, nil }
func (wrongResult) Compensate(context.Context, ask, *func()) error { return nil }

// An open transaction takes no actions and no order.
func TestOpenTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	tx, err := tcc.Begin(t.Context(), b.engine, "g")
	sagatest.Must(t, err)
	if err := tx.Try(t.Context(), away{"a"}); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "use a plan for actions") {
		t.Error(err)
	}
	for _, step := range []saga.Step{{Parallel: true}, {AfterDecision: true}, {Decides: true}} {
		step.Kind, step.Input = "tcc.hold", hold{"h"}
		if err := b.engine.Try(t.Context(), "g", "01", step); !errors.Is(err, saga.ErrInvalid) {
			t.Error(err)
		}
	}
	sagatest.Must(t, tx.Try(t.Context(), hold{"h"}))
	if _, err := tx.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	b.did("try h, confirm h")
}

// Lookup shows the order, the roles, and the results.
func TestLookup(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.execute(action.NewSaga("g").Step(here{"a"}).Parallel(hold{"h"}, away{"b"}).Step(far{"c"}).AfterDecision(out{"y"}, far{"z"}), saga.Confirmed)
		found, err := b.engine.Lookup(t.Context(), "g")
		sagatest.Must(t, err)
		if found.Pattern != "saga" {
			t.Errorf("the pattern is %q", found.Pattern)
		}
		type view struct {
			Stage  int
			Role   saga.Role
			Result string
			State  barrier.State
		}
		var got []view
		for _, v := range found.Branches {
			one := view{v.Stage, v.Role, string(v.Result), ""}
			if v.Barrier != nil {
				one.State = v.Barrier.State
			}
			got = append(got, one)
		}
		want := []view{
			{1, saga.RoleAction, `{"Made":"a1"}`, barrier.StateConfirmed},
			{2, "", "", barrier.StateConfirmed},
			{2, saga.RoleAction, `{"Made":"b1"}`, barrier.StateConfirmed},
			{3, saga.RoleAction, `{"Made":"c1"}`, ""}, // in another service
			{4, saga.RoleAfter, `{"Made":"y1"}`, barrier.StateConfirmed},
			{4, saga.RoleAfter, `{"Made":"z1"}`, ""},
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

// A compensation that fails again and again needs attention. The reason names it.
func TestAttention(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{AttentionAttempts: 3})
		b.journal.fail("do c", action.Reject(errNo))
		b.journal.fail("undo b", always...)
		if _, err := action.NewSaga("g").Step(here{"a"}).Step(away{"b"}).Step(far{"c"}).Execute(t.Context(), b.engine); err == nil {
			t.Fatal("it is not cancelled")
		}
		var found *saga.Transaction
		sagatest.Eventually(t, "it needs attention", func() bool {
			var err error
			found, err = b.engine.Lookup(t.Context(), "g")
			return err == nil && found.Attention != ""
		})
		if !strings.Contains(found.Attention, "branch 02, act.away, has failed 3 times") {
			t.Errorf("%s", found.Attention)
		}
		b.journal.fail("undo b")
		b.reaches("g", saga.Cancelled)
		b.did("do a, do b, undo b, undo a")
	})
}
