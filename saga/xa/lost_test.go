package xa_test

import (
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// statements are the statements whose answer is lost.
var statements = map[string]map[string]string{
	"mysql": {"begin": "XA START", "end": "XA END", "prepare": "XA PREPARE", "commit": "XA COMMIT", "roll back": "XA ROLLBACK"},
	"postgres": {"begin": "BEGIN ISOLATION", "prepare": "PREPARE TRANSACTION", "commit": "COMMIT PREPARED",
		"roll back": "ROLLBACK PREPARED"},
}

// The connection is lost at each statement of the protocol, before the server has it or before
// its answer. The transaction is confirmed or cancelled all the same, and its work is done
// once, or not at all.
func TestLostAnswers(t *testing.T) {
	for _, dialect := range servers {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			direct, through, p := throughProxy(t, dialect)
			e := engine(t, sqltest.Open(t, "sqlite"), open(t, through), adder{})
			for name, text := range statements[dialect] {
				for _, answered := range []bool{false, true} {
					before, lost, gid := number(t, direct, 1), p.count(), gidOf(t, direct)
					ctx := t.Context()
					tx, err := tcc.Begin(ctx, e, gid)
					sagatest.Must(t, err)
					p.lose(text, answered)
					if err := tx.Try(ctx, add{1, 5}); err != nil {
						t.Errorf("%s, answered %v: %v", name, answered, err)
					}
					want, added, row := saga.Confirmed, 5, barrier.StateConfirmed
					if name == "roll back" {
						want, added, row = saga.Cancelled, 0, barrier.StateCancelled
						_, err = tx.Cancel(ctx, "on purpose")
						if answered {
							row = barrier.StateSuspended // nobody knows who has rolled back
						}
					} else {
						_, err = tx.Confirm(ctx)
					}
					if err != nil {
						t.Errorf("%s, answered %v: %v", name, answered, err)
					}
					found := sagatest.Reach(t, e, gid, want)
					if p.count() != lost+1 {
						t.Errorf("%s, answered %v: %d connections were lost", name, answered, p.count()-lost)
					}
					if got := number(t, direct, 1) - before; got != added || len(prepared(t, direct, gid)) != 0 || locked(direct, 1) {
						t.Errorf("%s, answered %v: added %d, left are %v", name, answered, got, prepared(t, direct, gid))
					}
					if b := found.Branches[0].Barrier; b == nil || b.State != row {
						t.Errorf("%s, answered %v: %+v", name, answered, b)
					}
				}
			}
		})
	}
}

// The prepared transaction is gone, because a person has rolled it back. Confirm does not
// succeed, and the transaction needs attention, until an operator resolves it.
func TestPreparedTransactionIsLost(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		d := open(t, db)
		e := engine(t, sqltest.Open(t, "sqlite"), d, adder{})
		ctx, gid := t.Context(), gidOf(t, db)
		tx, err := tcc.Begin(ctx, e, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, add{1, 5}))
		d.Close()
		byHand := prepared(t, db, gid)[0]
		d.Gone(t.Context(), byHand)
		sqltest.Exec(t, db, xa.RollbackStatement(db, byHand))
		outcome, err := tx.Confirm(ctx)
		if err != nil || outcome.State != saga.Confirming {
			t.Error(outcome, err)
		}
		sagatest.Eventually(t, "it needs attention", func() bool {
			found, err := e.Lookup(ctx, gid)
			sagatest.Must(t, err)
			b := found.Branches[0]
			return strings.Contains(found.Attention, "never committed") && b.Barrier == nil && b.Attempts[0].Code == saga.CodeConflict
		})
		if number(t, db, 1) != 0 {
			t.Error("something was committed")
		}
		sagatest.Must(t, e.Resolve(ctx, gid, "01", saga.Cancelled, saga.Operator{Who: "bob", Why: "it was rolled back by hand"}))
		sagatest.Reach(t, e, gid, saga.Confirmed)
	})
}
