package xa_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Nobody sees the work of a branch, or changes what it has changed, before the decision.
func TestNobodySeesTheWorkBeforeTheDecision(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		log := sqltest.Open(t, "sqlite")
		e := engine(t, log, db, adder{})
		ctx, gid := t.Context(), sagatest.GID()
		tx, err := tcc.Begin(ctx, e, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, add{1, 5}))
		if got := n(t, db, 1); got != 0 {
			t.Errorf("before the decision: %d", got)
		}
		if err := db.Transaction(func(tx *gorm.DB) error {
			return tx.Exec("SELECT n FROM numbers WHERE id = 1 FOR UPDATE NOWAIT").Error
		}); err == nil {
			t.Error("another session can lock the row")
		}
		outcome, err := tx.Confirm(ctx)
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatal(outcome, err)
		}
		if got := n(t, db, 1); got != 5 {
			t.Errorf("after the decision: %d", got)
		}
		found, err := e.Lookup(ctx, gid)
		sagatest.Must(t, err)
		if row := found.Branches[0].Barrier; row == nil || row.State != "confirmed" {
			t.Errorf("%+v", found.Branches[0])
		}
	})
}

func TestExecute(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		e := engine(t, db, db, adder{after: func(_ context.Context, _ *gorm.DB, in add) error {
			if in.ID == 3 {
				return tcc.Reject(context.Canceled)
			}
			return nil
		}})
		outcome, err := tcc.Execute(t.Context(), e, sagatest.GID(), add{1, 5}, add{2, 7})
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatal(outcome, err)
		}
		if n(t, db, 1) != 5 || n(t, db, 2) != 7 {
			t.Error("not done")
		}
		gid := sagatest.GID()
		_, err = tcc.Execute(t.Context(), e, gid, add{1, 5}, add{3, 7})
		t.Log(err)
		sagatest.Reach(t, e, gid, saga.Cancelled)
		if n(t, db, 1) != 5 || n(t, db, 3) != 0 {
			t.Error("not rolled back")
		}
		t.Logf("%+v", rows(t, db, gid))
	})
}
