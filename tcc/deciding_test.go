package tcc_test

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

// decidingPlans are the plans that the tests have beside the work that decides.
var decidingPlans = map[string][]tcc.Payload{
	"alone": nil, "here": {hold{1, 1}}, "away": {holdAway{1, 1}}, "out": {holdOut{1, 1}},
	"here, away, here": {hold{1, 1}, holdAway{1, 1}, hold{2, 1}},
}

// Local work in another database takes effect if and only if the transaction is confirmed.
func TestLocalWorkInAnotherDatabase(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newDecidingBench(t, db, sqltest.Open(t, db.Name()), quick)
		for name, plan := range decidingPlans {
			gid := sagatest.GID()
			for range 2 { // the second time it is only asked for
				outcome, err := b.execute(t.Context(), gid, b.order(gid), plan...)
				if err != nil || outcome.State != saga.Confirmed {
					t.Errorf("%s: %+v, %v", name, outcome, err)
				}
			}
			b.ends(gid, saga.Confirmed)
			if state := b.barrierOf(gid); state != barrier.StateConfirmed {
				t.Errorf("%s: the barrier row of the order is %q", name, state)
			}
			for how, c := range map[string]struct {
				work func() error
				code string
			}{
				"fails":   {func() error { return errors.New("on purpose") }, saga.CodeFailed},
				"rejects": {func() error { return tcc.RejectCode("no.room", errors.New("no room")) }, "no.room"},
				"panics":  {func() error { panic("on purpose") }, saga.CodeFailed},
			} {
				gid := sagatest.GID()
				outcome, err := b.execute(t.Context(), gid, func(ctx context.Context, tx *gorm.DB) error {
					return errors.Join(b.order(gid)(ctx, tx), c.work())
				}, plan...)
				if !errors.Is(err, saga.ErrCancelled) || outcome.Code != c.code {
					t.Errorf("%s, work that %s: %+v, %v", name, how, outcome, err)
				}
				b.ends(gid, saga.Cancelled)
				if state := b.barrierOf(gid); state != barrier.StateSuspended {
					t.Errorf("%s, work that %s: the barrier row of the order is %q", name, how, state)
				}
			}
			gid = sagatest.GID()
			_, err := b.execute(t.Context(), gid, b.order(gid), append(plan, hold{2, 1 << 20})...)
			if !errors.Is(err, saga.ErrCancelled) {
				t.Errorf("%s, and a Try that rejects: %v", name, err)
			}
			b.ends(gid, saga.Cancelled)
			if state := b.barrierOf(gid); state != "" {
				t.Errorf("%s, and a Try that rejects: the barrier row of the order is %q", name, state)
			}
		}
	})
}
