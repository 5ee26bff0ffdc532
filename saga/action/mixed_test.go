package action_test

import (
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// TCC branches and actions in one saga: the branches are confirmed after the decision, and know
// the results of actions.
func TestMixed(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		s := action.NewSaga("g").Step(away{"a"}).Step(hold{"h"}).Parallel(holdAway{"i"}, far{"b"}).Step(here{"c"}).AfterDecision(out{"z"})
		b.execute(s, saga.Confirmed)
		b.did("do a, try h, (try i, do b), do c, (confirm h, confirm i, do z)")
		b.knew("try h", "01=a1")
		b.knew("confirm h", "01=a1 04=b1 05=c1")
	})
}

// After a cancel, TCC branches give back what they hold in any order, and do not wait for the
// compensations, which are in order.
func TestMixedCancel(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.journal.fail("do c", action.Reject(errNo))
		b.journal.fail("undo b", errDown, errDown)
		b.journal.fail("cancel i", errDown, errDown, errDown)
		s := action.NewSaga("g").Step(hold{"h"}).Step(away{"a"}).Step(holdAway{"i"}).Step(here{"b"}).Step(far{"c"})
		if _, err := s.Execute(t.Context(), b.engine); !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		b.reaches("g", saga.Cancelled)
		b.did("try h, do a, try i, do b, cancel h, (undo b, undo a, cancel i)")
		var order []string
		for _, e := range b.history() {
			if e.What == "undo" {
				order = append(order, e.Letter)
			}
		}
		if !inOrder(order, "b, a") {
			t.Errorf("compensated: %v", order)
		}
	})
}

// Forward recovery repeats the Try of a TCC branch, too.
func TestMixedForward(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.journal.fail("try i", errDown, errDown)
		b.executeWith(action.NewSaga("g").Step(hold{"h"}).Step(holdAway{"i"}).Step(away{"a"}), unlimited, saga.Confirmed)
		b.did("try h, try i, do a, (confirm h, confirm i)")
	})
}

// Cleaning removes the results in every database.
func TestCleaning(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick) // keeps all
		b.execute(action.NewSaga("g").Step(here{"a"}).Step(away{"b"}).Step(out{"c"}).Step(far{"d"}).AfterDecision(away{"z"}), saga.Confirmed)
		results := func(db *gorm.DB) (n int) {
			sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_results WHERE gid = 'g'").Scan(&n).Error)
			return n
		}
		if results(b.db) != 5 || results(b.other) != 2 || results(b.third) != 1 {
			t.Errorf("results: %d in the log, %d, %d", results(b.db), results(b.other), results(b.third))
		}
		config := quick
		config.CallTimeout, config.Retention = time.Second, 2*time.Second
		cleaner := b.open(config)
		past := map[string]string{
			"mysql":    "UTC_TIMESTAMP(6) - INTERVAL 1 DAY",
			"postgres": "clock_timestamp() - INTERVAL '1 day'",
			"sqlite":   "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 day')",
		}
		sqltest.Exec(t, db, "UPDATE saga_transactions SET created_at = "+past[db.Name()]+", deadline_at = created_at, finished_at = "+past[db.Name()])
		sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = created_at")
		sagatest.Run(t, cleaner)
		sagatest.Eventually(t, "the engine removes them", func() bool { return results(b.db) == 0 && results(b.other) == 0 })
		if results(b.third) != 1 {
			t.Error("the service's result is gone")
		}
		sqltest.Exec(t, b.third, "UPDATE saga_barrier SET tried_at = "+past["sqlite"]+", confirmed_at = "+past["sqlite"])
		n, err := b.service.Clean(t.Context(), time.Hour)
		if n != 1 || err != nil || results(b.third) != 0 {
			t.Errorf("the service removes %d transactions, %v, and %d results are left", n, err, results(b.third))
		}
	})
}

// The same gid with the same steps in another order is another saga.
func TestAnotherOrder(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	b := newBench(t, db, embedded.Config{})
	b.execute(action.NewSaga("g").Step(here{"a"}).Step(here{"b"}).Step(here{"c"}), saga.Confirmed)
	b.execute(action.NewSaga("g").Step(here{"a"}).Step(here{"b"}).Step(here{"c"}), saga.Confirmed) // the same
	for name, s := range map[string]*action.Saga{
		"a group":            action.NewSaga("g").Step(here{"a"}).Parallel(here{"b"}, here{"c"}),
		"after the decision": action.NewSaga("g").Step(here{"a"}).Step(here{"b"}).AfterDecision(here{"c"}),
		"another order":      action.NewSaga("g").Step(here{"b"}).Step(here{"a"}).Step(here{"c"}),
	} {
		if _, err := s.Execute(t.Context(), b.engine); !errors.Is(err, saga.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.did("do a, do b, do c")
}
