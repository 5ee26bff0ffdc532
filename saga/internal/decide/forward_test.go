package decide_test

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The process that executes a plan calls no Cancel of a branch that it has not tried. An
// instance that has taken the plan over calls every Cancel: the process before it may still
// call any Try.
func TestOnlyTheFirstDriverLeavesOutCancels(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for gid, epoch := range map[string]int64{"first": 1, "next": 2} {
			w := newWorld(t, db, 10)
			w.Fail("try "+gid+"/01", short)
			plan := w.Prepare(gid, "remote", "remote", "a")
			plan.TryAttempts = saga.Unlimited
			start := w.Start(plan)
			if start.TryAttempts = saga.Unlimited; epoch == 1 {
				w.Decide(t.Context(), plan, start, nil)
			} else {
				w.Insert(start)
				ok(t, db.Exec("UPDATE saga_transactions SET epoch = 2 WHERE gid = ?", gid).Error)
				plan.Epoch, plan.State = epoch, saga.Trying
				w.Continue(t.Context(), plan, time.Minute)
			}
			if plan.State != saga.Cancelling || w.Made() != "try "+gid+"/01" {
				t.Fatalf("%s is %s", gid, plan.State)
			}
			var done int
			ok(t, db.Raw("SELECT COUNT(*) FROM saga_branches WHERE gid = ? AND done_at IS NOT NULL", gid).Scan(&done).Error)
			for _, s := range plan.Steps[1:] {
				if s.Done != (epoch == 1) {
					t.Errorf("%s: branch %s is done: %t", gid, s.ID, s.Done)
				}
			}
			if want := map[int64]int{1: 2, 2: 0}[epoch]; done != want {
				t.Errorf("%s: the log has %d branches as done, want %d", gid, done, want)
			}
		}
	})
}

// A driver that another instance has replaced goes no further than the stage that it tries.
func TestAStaleDriverStopsAfterItsStage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kind := range []string{"remote", "a"} {
			w := newWorld(t, db, 10)
			gid := "stale-" + kind
			plan := w.Prepare(gid, kind, kind)
			plan.TryAttempts = saga.Unlimited
			start := w.Start(plan)
			start.TryAttempts = saga.Unlimited
			w.Insert(start)
			decided := txlog.Cancelling
			ok(t, db.Exec("UPDATE saga_transactions SET epoch = 2, state = ?, decided_at = created_at WHERE gid = ?", decided, gid).Error)
			plan.State = saga.Trying
			got := w.Continue(t.Context(), plan, time.Minute)
			if !got.Taken || got.State != saga.Cancelling || w.Made() != "try "+gid+"/01" {
				t.Errorf("%s: %+v", gid, got)
			}
		}
	})
}

// A driver that has to stop uses up no attempt, and decides nothing: another one continues.
func TestTheEndOfADriverIsNoAttempt(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		plan := w.Prepare("g", "remote", "a")
		plan.TryAttempts = 2
		start := w.Start(plan)
		start.TryAttempts = 2
		w.Insert(start)
		plan.State, plan.Steps[0].Failed = saga.Trying, 1 // one attempt is left
		driving, stop := context.WithCancel(t.Context())
		w.Do("try g/01", func(ctx context.Context) error {
			stop()
			<-ctx.Done()
			return ctx.Err()
		})
		got := w.Continue(driving, plan, time.Minute)
		if got.State != saga.Trying || plan.Steps[0].Failed != 1 {
			t.Errorf("%+v, %d failures", got, plan.Steps[0].Failed)
		}
		if r := w.Record("g"); r.State != txlog.Trying || r.Failures != 0 {
			t.Errorf("the log has %+v", r)
		}
	})
}
