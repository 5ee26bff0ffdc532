package tcc_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// plans are the ways in which a plan can mix branches.
var plans = map[string][]tcc.Payload{
	"here":     {hold{1, 30}, hold{2, 20}},
	"away":     {holdAway{1, 30}},
	"mixed":    {hold{1, 30}, holdAway{1, 30}},
	"external": {hold{1, 30}, holdOut{1, 30}},
	"all":      {holdOut{1, 30}, hold{1, 30}, holdAway{1, 30}},
}

func TestExecuteConfirms(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		here, away := 100, 100
		for name, plan := range plans {
			gid := sagatest.GID()
			for range 3 { // repeated: the same answer, and no second effect
				outcome, err := tcc.Execute(t.Context(), b.orch, gid, plan...)
				if err != nil || outcome.State != saga.Confirmed || outcome.GID != gid {
					t.Fatalf("%s: %+v, %v", name, outcome, err)
				}
			}
			for i, p := range plan {
				switch p := p.(type) {
				case hold:
					if p.Account == 1 {
						here -= 30
					}
				case holdAway:
					away -= 30
				case holdOut:
					if got := b.out.at(gid + "/" + saga.BranchID(i+1)); got != "spent" {
						t.Errorf("%s: the gateway says %q", name, got)
					}
				}
			}
			b.books(b.db, 1, here, 0, 100-here)
			b.books(b.other, 1, away, 0, 100-away)
			found := b.reaches(gid, saga.Confirmed)
			for _, branch := range found.Branches {
				if branch.Barrier == nil || branch.Barrier.State != barrier.StateConfirmed {
					t.Errorf("%s: barrier of %s: %+v", name, branch.Kind, branch.Barrier)
				}
			}
			if here < 30 || away < 30 {
				sqltest.Exec(t, b.db, "UPDATE accounts SET credit = 100, spent = 0 WHERE id = 1")
				sqltest.Exec(t, b.other, "UPDATE accounts SET credit = 100, spent = 0 WHERE id = 1")
				here, away = 100, 100
			}
		}
	})
}

func TestExecuteRejected(t *testing.T) {
	rejected := map[string][]tcc.Payload{
		"here first":  {hold{1, 101}, hold{2, 10}},
		"here last":   {hold{2, 10}, hold{1, 101}},
		"away":        {holdAway{1, 101}, hold{2, 10}},
		"here, mixed": {holdAway{2, 10}, hold{1, 101}, holdOut{2, 10}},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		for name, plan := range rejected {
			gid := sagatest.GID()
			outcome, err := tcc.Execute(t.Context(), b.orch, gid, plan...)
			if !errors.Is(err, saga.ErrCancelled) || !errors.Is(err, errShort) || outcome.State != saga.Cancelled {
				t.Fatalf("%s: %+v, %v", name, outcome, err)
			}
			again, err := tcc.Execute(t.Context(), b.orch, gid, plan...)
			if !errors.Is(err, saga.ErrCancelled) || again != outcome || !strings.Contains(again.Reason, errShort.Error()) {
				t.Errorf("%s, repeated: %+v, %v", name, again, err)
			}
			b.reaches(gid, saga.Cancelled)
			b.books(b.db, 1, 100, 0, 0)
			b.books(b.db, 2, 100, 0, 0)
			b.books(b.other, 1, 100, 0, 0)
			b.books(b.other, 2, 100, 0, 0)
		}
	})
}

// A Try of a branch without a database may have had an effect whatever it
// answers: Cancel has to come.
func TestExternalTryIsCancelledWheneverItMayHaveHadAnEffect(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	b.out.afterwards = true
	b.out.fail(barrier.Try, 1, errors.New("reply lost"))
	gid := sagatest.GID()
	if _, err := tcc.Execute(t.Context(), b.orch, gid, holdOut{1, 1}); !errors.Is(err, saga.ErrCancelled) {
		t.Fatal(err)
	}
	if got := b.out.at(gid + "/01"); got != "free" {
		t.Errorf("the gateway says %q after a Try whose reply was lost", got)
	}
}

func TestConfirmIsRetriedAndHoldsUpNoOther(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		b.here.fail(barrier.Confirm, 4, errors.New("on purpose"))
		gid := sagatest.GID()
		outcome, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 30}, holdAway{1, 30}, hold{2, 20}, holdOut{1, 1})
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(b.other, 1, 70, 0, 30)
		if got := b.out.at(gid + "/04"); got != "spent" {
			t.Errorf("the gateway says %q", got)
		}
		found := b.reaches(gid, saga.Confirmed)
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.db, 2, 80, 0, 20)
		if found.Failures == 0 || len(found.Branches[0].Attempts) == 0 {
			t.Errorf("no failed attempt in the log: %+v", found)
		}
		for _, attempt := range found.Branches[0].Attempts {
			if !strings.Contains(attempt.Error, "on purpose") || attempt.Operation != barrier.Confirm || attempt.FailedAt.IsZero() || attempt.NextAt.Before(attempt.FailedAt) {
				t.Errorf("attempt %+v", attempt)
			}
		}
	})
}

// One branch whose Confirm never succeeds holds up no other, whatever it is
// that fails: a fault that looks as if it would pass, or the commit itself.
func TestABadConfirmHoldsUpNoOther(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		sagatest.Must(t, tcc.Register(b.orch, poisonous{}))
		always := &credit[long]{db: db, read: func(long) (int, int) { return 2, 1 }}
		always.fail(barrier.Confirm, 1<<30, driver.ErrBadConn)
		sagatest.Must(t, tcc.Register(b.orch, always))
		bad := map[string][]tcc.Payload{
			"passing, first": {long{}, hold{1, 10}},
			"passing, last":  {hold{1, 10}, long{}},
		}
		if db.Dialector.Name() == "postgres" {
			bad["poison, first"] = []tcc.Payload{poison{}, hold{1, 10}}
			bad["poison, last"] = []tcc.Payload{hold{1, 10}, poison{}}
		}
		spent := 0
		for name, plan := range bad {
			gid := sagatest.GID()
			outcome, err := tcc.Execute(t.Context(), b.orch, gid, plan...)
			if err != nil || outcome.State != saga.Confirming {
				t.Fatalf("%s: %+v, %v", name, outcome, err)
			}
			spent += 10
			b.books(b.db, 1, 100-spent, 0, spent)
			found, err := b.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			for _, branch := range found.Branches {
				if failed := len(branch.Attempts) > 0; failed == (branch.Kind == "credit.hold") {
					t.Errorf("%s: attempts of %s: %+v", name, branch.Kind, branch.Attempts)
				}
			}
		}
	})
}

// A plan that is tried for longer than its timeout is cancelled.
func TestTimeoutOfAPlan(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		for _, plan := range [][]tcc.Payload{{hold{1, 10}}, {holdAway{1, 10}, hold{1, 10}}} {
			b.here.hold(barrier.Try)
			b.away.hold(barrier.Try)
			_, err := tcc.ExecuteWith(t.Context(), b.orch, sagatest.GID(), saga.Options{Timeout: time.Second}, plan...)
			if !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), "deadline") {
				t.Errorf("%v: %v", plan, err)
			}
		}
		b.books(b.db, 1, 100, 0, 0)
	})
}

func TestPanicsAreAttemptErrors(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	b.here.fail(barrier.Confirm, 1, nil)
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 30})
	sagatest.Must(t, err)
	found := b.reaches(gid, saga.Confirmed)
	if attempts := found.Branches[0].Attempts; len(attempts) != 1 || !strings.Contains(attempts[0].Error, "panic: on purpose") {
		t.Errorf("attempts %+v", attempts)
	}
	b.books(b.db, 1, 70, 0, 30)

	b.here.fail(barrier.Try, 1, nil)
	if _, err := tcc.Execute(t.Context(), b.orch, sagatest.GID(), hold{1, 30}); !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("a Try that panics: %v", err)
	}
	b.books(b.db, 1, 70, 0, 30)
}

func TestConcurrentStartsOfOneGID(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		second := b.open(quick)
		sagatest.Run(t, second)
		for round := range 5 {
			gid := sagatest.GID()
			var wg sync.WaitGroup
			for i := range 10 {
				engine := []*embedded.Engine{b.orch, second}[i%2]
				wg.Go(func() {
					outcome, err := tcc.Execute(t.Context(), engine, gid, hold{1, 10}, hold{2, 5})
					if err != nil {
						t.Errorf("%+v, %v", outcome, err)
					}
				})
			}
			wg.Wait()
			b.reaches(gid, saga.Confirmed)
			b.books(b.db, 1, 100-10*(round+1), 0, 10*(round+1))
		}
	})
}

func TestAnotherPlanUnderTheSameGID(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 30})
	sagatest.Must(t, err)
	for _, plan := range [][]tcc.Payload{{hold{1, 31}}, {hold{1, 30}, hold{1, 30}}, {holdAway{1, 30}}} {
		if _, err := tcc.Execute(t.Context(), b.orch, gid, plan...); !errors.Is(err, saga.ErrMismatch) {
			t.Errorf("%v: %v", plan, err)
		}
	}
	b.books(b.db, 1, 70, 0, 30)
}

// The caller goes away in the middle: what is undecided is cancelled, and what
// is decided goes on.
func TestCallerGoesAway(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		for _, plan := range [][]tcc.Payload{{hold{1, 30}}, {holdAway{1, 30}, hold{1, 30}}} {
			gate := b.away.hold(barrier.Try)
			if len(plan) == 1 {
				gate = b.here.hold(barrier.Try)
			}
			ctx, leave := context.WithCancel(t.Context())
			gid := sagatest.GID()
			answered := make(chan error)
			go func() {
				_, err := tcc.Execute(ctx, b.orch, gid, plan...)
				answered <- err
			}()
			sagatest.Eventually(t, "Try is called", func() bool { return b.away.called(barrier.Try)+b.here.called(barrier.Try) > 0 })
			leave()
			if err := <-answered; !errors.Is(err, saga.ErrCancelled) && !errors.Is(err, saga.ErrUnknown) {
				t.Errorf("%v: %v", plan, err)
			}
			close(gate)
			if len(plan) > 1 {
				b.reaches(gid, saga.Cancelled)
			}
			b.books(b.db, 1, 100, 0, 0)
			b.books(b.other, 1, 100, 0, 0)
			b.here.block, b.here.calls, b.away.block, b.away.calls = nil, nil, nil, nil
		}

		gate := b.away.hold(barrier.Confirm)
		ctx, leave := context.WithCancel(t.Context())
		gid := sagatest.GID()
		answered := make(chan saga.Outcome)
		go func() {
			outcome, err := tcc.Execute(ctx, b.orch, gid, holdAway{1, 30}, hold{1, 30})
			if err != nil {
				t.Error(err)
			}
			answered <- outcome
		}()
		sagatest.Eventually(t, "Confirm is called", func() bool { return b.away.called(barrier.Confirm) > 0 })
		leave()
		if outcome := <-answered; outcome.State != saga.Confirming {
			t.Errorf("%+v", outcome)
		}
		close(gate)
		b.reaches(gid, saga.Confirmed)
		b.books(b.db, 1, 70, 0, 30)
	})
}

func TestReturnDecided(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	gate := b.here.hold(barrier.Confirm)
	gid := sagatest.GID()
	outcome, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{ReturnDecided: true}, hold{1, 30})
	if err != nil || outcome.State != saga.Confirming {
		t.Fatalf("%+v, %v", outcome, err)
	}
	close(gate)
	b.reaches(gid, saga.Confirmed)
}

func TestExecuteRefusesBadInput(t *testing.T) {
	t.Parallel()
	config := quick
	config.MaxPayload = 100
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	many := make([]tcc.Payload, saga.MaxBranches+1)
	for i := range many {
		many[i] = hold{1, 1}
	}
	cases := map[string]struct {
		gid      string
		options  saga.Options
		payloads []tcc.Payload
		says     string
	}{
		"empty gid":        {"", saga.Options{}, []tcc.Payload{hold{1, 1}}, "gid is empty"},
		"long gid":         {strings.Repeat("x", 129), saga.Options{}, []tcc.Payload{hold{1, 1}}, "129 characters"},
		"gid with slash":   {"a/b", saga.Options{}, []tcc.Payload{hold{1, 1}}, "slashes"},
		"no branch":        {"g", saga.Options{}, nil, "0 branches"},
		"too many":         {"g", saga.Options{}, many, "100 branches"},
		"nil payload":      {"g", saga.Options{}, []tcc.Payload{nil}, "payload is nil"},
		"unknown kind":     {"g", saga.Options{}, []tcc.Payload{unknown{}}, `"test.unknown" is not registered`},
		"wrong type":       {"g", saga.Options{}, []tcc.Payload{impostor{}}, "takes a tcc_test.hold"},
		"large":            {"g", saga.Options{}, []tcc.Payload{hold{1, 1}, long{strings.Repeat("x", 100)}}, "MaxPayload"},
		"negative timeout": {"g", saga.Options{Timeout: -1}, []tcc.Payload{hold{1, 1}}, "negative"},
		"endless timeout":  {"g", saga.Options{Timeout: maxDuration}, []tcc.Payload{hold{1, 1}}, "at most"},
	}
	sagatest.Must(t, tcc.Register[long](b.orch, nothing[long]{}))
	for name, c := range cases {
		_, err := tcc.ExecuteWith(t.Context(), b.orch, c.gid, c.options, c.payloads...)
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	listed, err := b.orch.List(t.Context(), saga.Filter{})
	if err != nil || len(listed) != 0 {
		t.Errorf("something was written: %+v, %v", listed, err)
	}
}

const maxDuration = 1<<63 - 1
