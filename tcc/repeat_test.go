package tcc_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A request that begins, tries and confirms can run again from its start after it
// was confirmed, on any instance, and changes nothing.
func TestRepeatedRequestRunsAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		other := b.open(quick)
		b.run(other)
		gid := newGID()
		for _, engine := range []saga.Engine{b.orch, b.orch, other} {
			tx, err := tcc.Begin(t.Context(), engine, gid, saga.Options{})
			must(t, err)
			must(t, tx.Try(t.Context(), hold{1, 30}))
			must(t, tx.Try(t.Context(), holdAway{1, 20}))
			must(t, tx.Try(t.Context(), holdOut{1, 10}))
			outcome, err := tx.Confirm(t.Context())
			if err != nil || outcome.State != saga.Confirmed {
				t.Fatalf("%+v, %v", outcome, err)
			}
		}
		tx, err := tcc.Begin(t.Context(), b.orch, gid, saga.Options{})
		must(t, err)
		if err := tx.Try(t.Context(), hold{1, 31}); !errors.Is(err, saga.ErrMismatch) {
			t.Errorf("another payload in the same place: %v", err)
		}
		tx, err = tcc.Resume(t.Context(), b.orch, gid)
		must(t, err)
		if err := tx.Try(t.Context(), hold{2, 1}); !errors.Is(err, saga.ErrNotOpen) {
			t.Errorf("one more branch: %v", err)
		}
		if calls := b.out.called(barrier.Try); calls != 1 {
			t.Errorf("the gateway was called %d times", calls)
		}
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
	})
}
