package xa_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// locked reports whether another session is kept from changing a number.
func locked(db *gorm.DB, id int) bool {
	return db.Transaction(func(tx *gorm.DB) error {
		return tx.Exec("SELECT n FROM numbers WHERE id = ? FOR UPDATE NOWAIT", id).Error
	}) != nil
}

// Nobody sees the work of a branch, or changes what it has changed, before the decision.
func TestNobodySeesTheWorkBeforeTheDecision(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		e := engine(t, sqltest.Open(t, "sqlite"), open(t, db), adder{})
		for _, decide := range []saga.State{saga.Confirmed, saga.Cancelled} {
			ctx, gid, before := t.Context(), gidOf(t, db), number(t, db, 1)
			tx, err := tcc.Begin(ctx, e, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(ctx, add{1, 5}))
			if got := number(t, db, 1); got != before || !locked(db, 1) {
				t.Errorf("before the decision: %d, locked: %v", got, locked(db, 1))
			}
			found, err := e.Lookup(ctx, gid)
			sagatest.Must(t, err)
			if b := found.Branches[0]; b.Barrier != nil || b.BarrierError != "" || len(prepared(t, db, gid)) != 1 {
				t.Errorf("before the decision: %+v, %v", b, prepared(t, db, gid))
			}
			want, row := before, barrier.StateCancelled
			if decide == saga.Confirmed {
				want, row = before+5, barrier.StateConfirmed
				_, err = tx.Confirm(ctx)
			} else {
				_, err = tx.Cancel(ctx, "on purpose")
			}
			sagatest.Must(t, err)
			found = sagatest.Reach(t, e, gid, decide)
			if b := found.Branches[0].Barrier; b == nil || b.State != row {
				t.Errorf("%s: %+v", decide, b)
			}
			if got := number(t, db, 1); got != want || locked(db, 1) || len(prepared(t, db, gid)) != 0 {
				t.Errorf("%s: %d, want %d, locked: %v", decide, got, want, locked(db, 1))
			}
		}
	})
}

// A plan with branches in the engine's own database. Its pool has few connections.
func TestExecute(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		no := errors.New("on purpose")
		e := engine(t, db, open(t, db), adder{after: func(_ context.Context, _ *gorm.DB, in add) error {
			if in.ID == 3 {
				return tcc.RejectCode("no.three", no)
			}
			return nil
		}})
		gid := gidOf(t, db)
		for range 2 {
			outcome, err := tcc.Execute(t.Context(), e, gid, add{1, 5}, add{2, 7})
			if err != nil || outcome.State != saga.Confirmed || number(t, db, 1) != 5 || number(t, db, 2) != 7 {
				t.Fatal(outcome, err, number(t, db, 1), number(t, db, 2))
			}
		}
		gid = gidOf(t, db)
		_, err := tcc.Execute(t.Context(), e, gid, add{1, 5}, add{3, 7})
		var rejection *saga.Rejection
		if !errors.Is(err, saga.ErrCancelled) || !errors.Is(err, no) || !errors.As(err, &rejection) || rejection.Code != "no.three" {
			t.Error(err)
		}
		sagatest.Reach(t, e, gid, saga.Cancelled)
		if number(t, db, 1) != 5 || number(t, db, 3) != 0 || locked(db, 1) || locked(db, 3) {
			t.Error("not rolled back")
		}
	})
}
