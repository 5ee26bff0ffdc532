package drive_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var batchGIDs = []string{"g1", "g2", "g3"}

// fresh returns transactions of a kind whose Trys were just committed.
func (w *world) fresh(kind string) (all []*txn.Txn) {
	w.t.Helper()
	for _, gid := range batchGIDs {
		transaction := w.Decided(saga.Confirming, time.Minute, gid, kind)
		transaction.Fresh = true
		all = append(all, transaction)
	}
	return all
}

// together drives transactions at the same time, and returns their states.
func (w *world) together(all []*txn.Txn) []saga.State {
	w.t.Helper()
	states := make([]saga.State, len(all))
	done := make(chan struct{})
	for i, transaction := range all {
		entry, _ := w.Kit.InFlight.Start(transaction.GID)
		go func() {
			states[i] = w.Drive(context.WithoutCancel(w.t.Context()), transaction, entry)
			done <- struct{}{}
		}()
	}
	for range all {
		<-done
	}
	return states
}

// The last commits of transactions of the same kinds are one. If it fails, each of them
// commits alone.
func TestFinishesShareACommit(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, fails := range []bool{false, true} {
			w := newWorld(t, db)
			all := w.fresh("a")
			key, _ := w.Driver.Shared.Key(all[0].Steps)
			w.GatherFinishes(key, len(all))
			want := []saga.State{saga.Confirmed, saga.Confirmed, saga.Confirmed}
			if fails {
				w.Fail("confirm g2/01", errPurpose)
				want[1] = saga.Confirming
			}
			w.Driver.Again = func(*txn.Txn, bool) {}
			if got := w.together(all); !slices.Equal(got, want) {
				t.Errorf("%v", got)
			}
			for i, gid := range batchGIDs {
				w.expect(gid, want[i], "01 "+map[saga.State]string{saga.Confirmed: "confirmed", saga.Confirming: "tried"}[want[i]], "")
			}
			if fails && len(w.Attempts("g2")) != 1 {
				t.Errorf("%+v", w.Attempts("g2"))
			}
			ok(t, db.Exec("DELETE FROM saga_transactions").Error)
			ok(t, db.Exec("DELETE FROM saga_branches").Error)
			ok(t, db.Exec("DELETE FROM saga_barrier").Error)
		}
	})
}

func TestFinishesNeedOneCommit(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newWorld(t, db)
	all := w.fresh("a")
	key, _ := w.Driver.Shared.Key(all[0].Steps)
	w.GatherFinishes(key, len(all))
	_, before := loss.Traffic()
	w.together(all)
	if _, after := loss.Traffic(); after-before != 1 {
		t.Errorf("%d commits", after-before)
	}
}

// The effects of fresh transactions are made at once. Each has its own result.
func TestEffectsInABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.Driver.Again = func(*txn.Txn, bool) {}
		var sizes []int
		var receipts []any
		w.Register(saga.NewLocal("sent", parts.Encode, saga.Local{
			Work: func(ctx context.Context, tx *gorm.DB, c saga.Call) error {
				receipts = append(receipts, c.Receipt)
				return nil
			},
			Effects: map[barrier.Op]saga.Effect{barrier.Confirm: w.Effect},
			EffectBatches: map[barrier.Op]saga.EffectBatch{barrier.Confirm: func(_ context.Context, calls []saga.BatchCall) ([]any, []error) {
				sizes = append(sizes, len(calls))
				got, failures := make([]any, len(calls)), make([]error, len(calls))
				for i, c := range calls {
					got[i] = "receipt of " + c.GID
					if c.GID == "g2" {
						failures[i] = errPurpose
					}
				}
				return got, failures
			}}}))
		all := w.fresh("sent")
		key, _ := w.Driver.Shared.Key(all[0].Steps)
		w.GatherEffects("sent", len(all))
		w.GatherFinishes(key, 2)
		if got := w.together(all); !slices.Equal(got, []saga.State{saga.Confirmed, saga.Confirming, saga.Confirmed}) {
			t.Errorf("%v", got)
		}
		if !slices.Equal(sizes, []int{3}) || w.Made() != "" {
			t.Errorf("the batches have the sizes %v", sizes)
		}
		if len(receipts) != 2 || !slices.Contains(receipts, any("receipt of g1")) || !slices.Contains(receipts, any("receipt of g3")) {
			t.Errorf("the receipts are %v", receipts)
		}
		if attempts := w.Attempts("g2"); len(attempts) != 1 || !strings.Contains(attempts[0].Error, "on purpose") {
			t.Errorf("%+v", attempts)
		}

		// A repeated call asks the barrier whether it is due, and is made alone.
		all[1].Steps[0].Wait = 0
		if got := w.round(all[1]); got != saga.Confirmed || w.Made() != "confirm g2/01" {
			t.Error(got)
		}
	})
}

// A COMMIT that is not answered is made certain, whatever the last commit has.
func TestAnUnansweredEnd(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		for in := 1; in <= 3; in++ {
			db, loss := sqltest.OpenLossy(t)
			w := newWorld(t, db)
			transaction := w.Decided(saga.Confirming, time.Minute, "g", "a", "external")
			loss.Arm(in, committed)
			got := w.round(transaction)
			loss.Arm(0, false)
			if state := w.State("g"); got != state {
				t.Errorf("COMMIT %d, made: %v: it is %s, and %s in the log", in, committed, got, state)
			}
			if loss.Count() != 1 {
				t.Errorf("%d COMMITs were not answered", loss.Count())
			}
			for range 3 { // what is not done is called again
				for _, s := range transaction.Steps {
					s.Wait = 0
				}
				if !w.State("g").Finished() {
					got = w.round(transaction)
				}
			}
			if got != saga.Confirmed {
				t.Errorf("COMMIT %d, made: %v: it is %s in the end", in, committed, got)
			}
			w.expect("g", saga.Confirmed, "01 confirmed, 02 confirmed", "01")
		}
	}
}
