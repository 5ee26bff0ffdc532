package tcc_test

import (
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// holdLess is hold after somebody has removed a field, under the same kind.
type holdLess struct{ Account int }

func (holdLess) Branch() string { return "credit.hold" }

// A removed field does not confirm with what is left: the branch waits, the log
// says why, and the version that knows the field finishes it.
func TestRemovedFieldIsRefused(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		changed := sagatest.Open(t, db, quick)
		sagatest.Must(t, tcc.Register(changed, &credit[holdLess]{db: db, read: func(p holdLess) (int, int) { return p.Account, 0 }}))
		sagatest.Run(t, changed)
		gid := sagatest.GID()
		tryAll(t, b.orch, gid, []tcc.Payload{hold{1, 30}})
		tx, err := tcc.Join(t.Context(), changed, gid)
		sagatest.Must(t, err)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming || outcome.Finished() {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(db, 1, 70, 30, 0)
		found, err := b.orch.Lookup(t.Context(), gid)
		sagatest.Must(t, err)
		if attempts := found.Branches[0].Attempts; len(attempts) == 0 || !strings.Contains(attempts[0].Error, `the field "Cents" is not in the type`) {
			t.Errorf("the log says %+v", attempts)
		}
		sagatest.Must(t, changed.Stop(t.Context()))
		b.reaches(gid, saga.Confirmed)
		b.books(db, 1, 70, 0, 30)
	})
}
