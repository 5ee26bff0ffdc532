package action_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A step after the decision is done again until it succeeds, and the steps after it wait. Each
// gets the results of all before it.
func TestAfterDecision(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do y", errDown, action.Reject(errNo), errDown)
		s := action.NewSaga("g").Step(payload("a", place)).
			AfterDecision(here{"x"}).AfterDecision(payload("y", place)).AfterDecision(away{"z"})
		b.execute(s, saga.Confirming)
		found := b.reaches("g", saga.Confirmed)
		b.did("do a, do x, do y, do z")
		b.knew("do x", "01=a1")
		b.knew("do z", "01=a1 02=x1 03=y4")
		y := found.Branches[2]
		if len(y.Attempts) != 3 || y.Attempts[0].Operation != barrier.Apply || y.Role != saga.RoleAfter || y.Stage != 3 || string(y.Result) != `{"Made":"y4"}` {
			t.Errorf("%+v", y)
		}
		if y.Barrier != nil && y.Barrier.State != barrier.StateConfirmed {
			t.Errorf("the barrier row: %+v", y.Barrier)
		}
	})
}

// Groups after the decision are done at the same time, and the next step waits for all of a group.
func TestGroupAfterDecision(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.journal.fail("do w", errDown, errDown)
		b.journal.fail("do x", errDown)
		s := action.NewSaga("g").Step(here{"a"}).AfterDecision(away{"w"}, here{"x"}, far{"y"}, out{"z"}).AfterDecision(here{"end"})
		b.execute(s, saga.Confirming)
		b.reaches("g", saga.Confirmed)
		b.did("do a, (do y, do z), (do w, do x), do end")
		b.knew("do end", "01=a1 02=w3 03=x2 04=y1 05=z1")
	})
}

// If the saga is cancelled, a step after the decision is neither done nor compensated.
func TestNothingAfterACancel(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do b", action.Reject(errNo))
		s := action.NewSaga("g").Step(away{"a"}).Step(far{"b"}).AfterDecision(payload("z", place))
		b.execute(s, saga.Cancelled)
		b.did("do a, undo a")
		if n := b.journal.called("do z") + b.journal.called("undo z"); n != 0 {
			t.Errorf("the step after the decision was called %d times", n)
		}
	})
}

// Another instance continues after the decision, with the results, and repeats only what it has to.
func TestDeathAfterTheDecision(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, place := range []string{"here", "away", "out", "far"} {
			t.Run(place, func(t *testing.T) {
				b := newStill(t, sqltest.Open(t, db.Name()), still)
				b.journal.fail("do y", errDown)
				s := action.NewSaga("g").Step(away{"a"}).AfterDecision(payload("x", place)).AfterDecision(payload("y", place)).AfterDecision(here{"z"})
				b.execute(s, saga.Confirming)
				b.die()
				// As if the process had died before the log had the end of the first step.
				sqltest.Exec(t, b.db, "UPDATE saga_branches SET done_at = NULL WHERE branch_id = '02'")
				if place == "away" || place == "far" {
					sqltest.Exec(t, b.db, "DELETE FROM saga_results WHERE branch_id = '02'")
				}
				second := b.open(quick)
				sagatest.Run(t, second)
				b.reaches("g", saga.Confirmed)
				b.did("do a, do x, do y, do z")
				b.knew("do z", "01=a1 02=x1 03=y2")
				if n := b.journal.called("do x"); n != 1 {
					t.Errorf("the first step after the decision was done %d times", n)
				}
			})
		}
	})
}

// The answer of a step after the decision is lost: the repeated call returns the first result.
func TestLostAnswerAfterTheDecision(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.withLossy(barrier.Apply, 2)
		b.execute(action.NewSaga("g").Step(away{"a"}).AfterDecision(farther{"y"}).AfterDecision(here{"z"}), saga.Confirming)
		b.reaches("g", saga.Confirmed)
		b.did("do a, do y, do z")
		b.knew("do z", "01=a1 02=y1")
	})
}

// An external step after the decision is done again with the same key if its outcome is not known.
func TestExternalAfterDecisionIsRepeated(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.gateway.after = true
		b.journal.fail("do z", errDown)
		b.execute(action.NewSaga("g").AfterDecision(out{"z"}), saga.Confirming)
		b.reaches("g", saga.Confirmed)
		b.did("do z, do z")
		if keys := b.gateway.keys; len(keys) != 2 || keys[0] != keys[1] || keys[0] == "" {
			t.Errorf("the idempotency keys are %q", keys)
		}
	})
}

// The COMMIT of the caller's local transaction is the decision, and what follows may be anywhere.
func TestExecuteIn(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		s := action.NewSaga("g").Step(here{"a"}).Step(here{"b"}).AfterDecision(payload("z", place))
		err := b.db.Transaction(func(tx *gorm.DB) error {
			if _, err := s.ExecuteIn(t.Context(), b.engine, tx); err != nil {
				return err
			}
			return errNo // the caller changes its mind
		})
		if !errors.Is(err, errNo) {
			t.Fatal(err)
		}
		b.did("")
		sagatest.Must(t, b.db.Transaction(func(tx *gorm.DB) error {
			_, err := s.ExecuteIn(t.Context(), b.engine, tx)
			return err
		}))
		b.reaches("g", saga.Confirmed)
		b.did("do a, do b, do z")
		b.knew("do b", "01=a2")
		b.knew("do z", "01=a2 02=b2")
	})
}

// A conflict of a step after the decision needs attention, and an operator can end it.
func TestConflictAfterTheDecision(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		sqltest.Exec(t, b.other, "INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, cancelled_at) VALUES ('g', '02', 'suspended', '', '', '', CURRENT_TIMESTAMP)")
		b.execute(action.NewSaga("g").Step(here{"a"}).AfterDecision(away{"y"}).AfterDecision(here{"z"}), saga.Confirming)
		sagatest.Eventually(t, "it needs attention", func() bool {
			found, err := b.engine.Lookup(t.Context(), "g")
			sagatest.Must(t, err)
			return found.Attention != ""
		})
		b.did("do a")
		sagatest.Must(t, b.engine.Resolve(t.Context(), "g", "02", saga.Confirmed, saga.Operator{Who: "alice", Why: "done by hand"}))
		b.reaches("g", saga.Confirmed)
		b.did("do a, do z")
	})
}
